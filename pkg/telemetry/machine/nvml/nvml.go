// Package nvml asks NVIDIA's driver about its GPUs. The library comes with the driver and is opened at run time: a machine
// without one has no GPUs to tell of. No C compiler is needed, but a dynamic linker is: only programs that have one anyway
// import this package.
package nvml

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/pkg/telemetry/machine"
)

const (
	library    = "libnvidia-ml.so.1"
	maxDevices = 64
	mib        = 1 << 20
	milliwatts = 1000
	textSize   = 96
	clockSM    = 1
	clockMem   = 2
	sensorGPU  = 0
	// memoryV2 is the version of memory, with its size, as the library wants it.
	memoryV2 = uint32(unsafe.Sizeof(memory{})) | 2<<24
)

type (
	device      uintptr
	utilization struct{ GPU, Memory uint32 }
	memory      struct {
		Version                     uint32
		_                           uint32
		Total, Reserved, Free, Used uint64
	}
)

// Library is the driver's. It is never closed: it lives as long as the process.
type Library struct {
	mu      sync.Mutex
	devices []device
	known   []machine.Device // names

	utilizationRates func(device, *utilization) int32
	memoryInfo       func(device, *memory) int32
	temperature      func(device, uint32, *uint32) int32
	clock            func(device, uint32, *uint32) int32
	power            func(device, *uint32) int32
	energy           func(device, *uint64) int32
	encoder, decoder func(device, *uint32, *uint32) int32
	replays          func(device, *uint32) int32
	name, uuid       func(device, *byte, uint32) int32
}

// Open finds the library and its GPUs.
func Open() (machine.GPUs, error) { return open(library) }

var _ machine.GPUs = (*Library)(nil)

func open(file string) (*Library, error) {
	handle, err := purego.Dlopen(file, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, fmt.Errorf("no %s: %w", library, err)
	}
	l := &Library{}
	var begin func() int32
	var count func(*uint32) int32
	var at func(uint32, *device) int32
	for symbol, f := range map[string]any{
		"nvmlInit_v2": &begin, "nvmlDeviceGetCount_v2": &count, "nvmlDeviceGetHandleByIndex_v2": &at,
		"nvmlDeviceGetName": &l.name, "nvmlDeviceGetUUID": &l.uuid,
	} {
		if err := bind(f, handle, symbol); err != nil {
			return nil, err
		}
	}
	for symbol, f := range map[string]any{ // what an old driver lacks is not told
		"nvmlDeviceGetUtilizationRates": &l.utilizationRates, "nvmlDeviceGetMemoryInfo_v2": &l.memoryInfo, "nvmlDeviceGetTemperature": &l.temperature,
		"nvmlDeviceGetClockInfo": &l.clock, "nvmlDeviceGetPowerUsage": &l.power, "nvmlDeviceGetTotalEnergyConsumption": &l.energy,
		"nvmlDeviceGetEncoderUtilization": &l.encoder, "nvmlDeviceGetDecoderUtilization": &l.decoder, "nvmlDeviceGetPcieReplayCounter": &l.replays,
	} {
		_ = bind(f, handle, symbol)
	}
	if code := begin(); code != 0 {
		return nil, fmt.Errorf("%s: nvmlInit: error %d", library, code)
	}
	var n uint32
	if code := count(&n); code != 0 || n == 0 {
		return nil, fmt.Errorf("%s: no GPU (error %d)", library, code)
	}
	for i := range min(n, maxDevices) {
		var d device
		if at(i, &d) != 0 {
			continue
		}
		l.devices = append(l.devices, d)
		l.known = append(l.known, machine.Device{Name: text(l.name, d), UUID: text(l.uuid, d)})
	}
	if len(l.devices) == 0 {
		return nil, errors.New(library + ": no GPU can be asked")
	}
	return l, nil
}

func bind(f any, handle uintptr, symbol string) error {
	at, err := purego.Dlsym(handle, symbol)
	if err != nil {
		return fmt.Errorf("%s has no %s: %w", library, symbol, err)
	}
	purego.RegisterFunc(f, at)
	return nil
}

func text(get func(device, *byte, uint32) int32, d device) string {
	var b [textSize]byte
	if get(d, &b[0], textSize) != 0 {
		return ""
	}
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return ""
}

// Devices asks every GPU.
func (l *Library) Devices() []machine.Device {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]machine.Device, len(l.devices))
	for i, d := range l.devices {
		out[i] = machine.Device{Name: l.known[i].Name, UUID: l.known[i].UUID, Values: l.ask(d)}
	}
	return out
}

func (l *Library) ask(d device) map[telemetry.Name]float64 {
	v := map[telemetry.Name]float64{}
	var n uint32
	one := func(value telemetry.Name, get func(device, *uint32) int32, unit float64) {
		if get != nil && get(d, &n) == 0 {
			v[value] = float64(n) / unit
		}
	}
	of := func(get func(device, uint32, *uint32) int32, what uint32) func(device, *uint32) int32 {
		if get == nil {
			return nil
		}
		return func(d device, n *uint32) int32 { return get(d, what, n) }
	}
	sampled := func(get func(device, *uint32, *uint32) int32) func(device, *uint32) int32 {
		if get == nil {
			return nil
		}
		return func(d device, n *uint32) int32 { var period uint32; return get(d, n, &period) }
	}
	one(telemetry.GPUSMClock, of(l.clock, clockSM), 1)
	one(telemetry.GPUMemClock, of(l.clock, clockMem), 1)
	one(telemetry.GPUTemperature, of(l.temperature, sensorGPU), 1)
	one(telemetry.GPUPower, l.power, milliwatts)
	one(telemetry.GPUEncUtilization, sampled(l.encoder), 1)
	one(telemetry.GPUDecUtilization, sampled(l.decoder), 1)
	one(telemetry.GPUPCIeReplays, l.replays, 1)
	var e uint64
	if l.energy != nil && l.energy(d, &e) == 0 {
		v[telemetry.GPUEnergy] = float64(e)
	}
	var u utilization
	if l.utilizationRates != nil && l.utilizationRates(d, &u) == 0 {
		v[telemetry.GPUUtilization], v[telemetry.GPUMemCopyUtilization] = float64(u.GPU), float64(u.Memory)
	}
	m := memory{Version: memoryV2}
	if l.memoryInfo != nil && l.memoryInfo(d, &m) == 0 {
		v[telemetry.GPUMemFree], v[telemetry.GPUMemUsed], v[telemetry.GPUMemReserved] = float64(m.Free)/mib, float64(m.Used)/mib, float64(m.Reserved)/mib
	}
	return v
}
