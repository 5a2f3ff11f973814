// Package machine measures what a process runs on: itself, the Go runtime, the machine and its GPUs.
//
// What cannot be read is not exported. Nothing of it is read but when somebody collects. GPUs are asked through package nvml,
// by programs that use them: it needs a dynamic linker at run time, which static programs do without.
package machine

import (
	"os"
	"runtime/metrics"
	"syscall"

	"github.com/prometheus/procfs"
	"github.com/prometheus/procfs/blockdevice"

	"github.com/sightline-dev/sightline/pkg/telemetry"
)

// Observe tells t of the process and its machine whenever somebody collects. state is the folder that the process keeps its
// own files in; "" is none.
func Observe(t *telemetry.Telemetry, state string) {
	t.Collect(runtimeOf())
	t.Collect(processOf(procfs.DefaultMountPoint))
	t.Collect(hostOf(procfs.DefaultMountPoint, "/sys"))
	if state != "" {
		t.Collect(func(g *telemetry.Reading) { files(g, state) })
	}
}

// runtimeOf reads the Go runtime.
func runtimeOf() func(*telemetry.Reading) {
	rows := []struct {
		metric telemetry.Name
		from   string
	}{
		{telemetry.GoGoroutines, "/sched/goroutines:goroutines"},
		{telemetry.GoHeapObjects, "/memory/classes/heap/objects:bytes"},
		{telemetry.GoHeapGoal, "/gc/heap/goal:bytes"},
		{telemetry.GoMemory, "/memory/classes/total:bytes"},
		{telemetry.GoAllocated, "/gc/heap/allocs:bytes"},
		{telemetry.GoGCCycles, "/gc/cycles/total:gc-cycles"},
		{telemetry.GoMaxProcs, "/sched/gomaxprocs:threads"},
	}
	return func(g *telemetry.Reading) {
		samples := make([]metrics.Sample, len(rows)) // of each collector its own: two may collect at the same time
		for i, r := range rows {
			samples[i].Name = r.from
		}
		metrics.Read(samples)
		for i, r := range rows {
			if samples[i].Value.Kind() == metrics.KindUint64 {
				g.Set(r.metric, float64(samples[i].Value.Uint64()))
			}
		}
	}
}

// processOf reads the process from a mounted /proc.
func processOf(mount string) func(*telemetry.Reading) {
	fs, err := procfs.NewFS(mount)
	if err != nil {
		return func(*telemetry.Reading) {}
	}
	return func(g *telemetry.Reading) {
		p, err := fs.Proc(os.Getpid())
		if err != nil {
			return
		}
		if s, err := p.Stat(); err == nil {
			g.Set(telemetry.ProcessCPU, s.CPUTime())
			g.Set(telemetry.ProcessMemory, float64(s.ResidentMemory()))
			g.Set(telemetry.ProcessThreads, float64(s.NumThreads))
			if at, err := s.StartTime(); err == nil {
				g.Set(telemetry.ProcessStart, at)
			}
		}
		if n, err := p.FileDescriptorsLen(); err == nil {
			g.Set(telemetry.ProcessOpenFDs, float64(n))
		}
	}
}

// hostOf reads the machine. Network interfaces are those of the process's own network namespace.
func hostOf(proc, sys string) func(*telemetry.Reading) {
	fs, err := procfs.NewFS(proc)
	if err != nil {
		return func(*telemetry.Reading) {}
	}
	return func(g *telemetry.Reading) {
		if s, err := fs.Stat(); err == nil {
			cpu := s.CPUTotal
			for mode, v := range map[string]float64{
				"user": cpu.User, "nice": cpu.Nice, "system": cpu.System, "idle": cpu.Idle, "iowait": cpu.Iowait,
				"irq": cpu.IRQ, "softirq": cpu.SoftIRQ, "steal": cpu.Steal,
			} {
				g.Set(telemetry.HostCPU, v, mode)
			}
		}
		if m, err := fs.Meminfo(); err == nil {
			if m.MemTotalBytes != nil {
				g.Set(telemetry.HostMemoryTotal, float64(*m.MemTotalBytes))
			}
			if m.MemAvailableBytes != nil {
				g.Set(telemetry.HostMemoryAvailable, float64(*m.MemAvailableBytes))
			}
		}
		network(g, fs)
		disks(g, proc, sys)
	}
}

// maxDevices bounds the interfaces and disks that are told of.
const maxDevices = 64

func network(g *telemetry.Reading, fs procfs.FS) {
	self, err := fs.Self()
	if err != nil {
		return
	}
	all, err := self.NetDev()
	if err != nil {
		return
	}
	n := 0
	for name, d := range all {
		if n++; n > maxDevices {
			return
		}
		g.Set(telemetry.HostNetworkReceived, float64(d.RxBytes), name)
		g.Set(telemetry.HostNetworkTransmitted, float64(d.TxBytes), name)
	}
}

func disks(g *telemetry.Reading, proc, sys string) {
	const sector = 512 // of the kernel's statistics, whatever the disk's is
	fs, err := blockdevice.NewFS(proc, sys)
	if err != nil {
		return
	}
	all, err := fs.ProcDiskstats()
	if err != nil {
		return
	}
	whole, err := fs.SysBlockDevices() // disks, not their partitions
	if err != nil {
		return
	}
	of := map[string]bool{}
	for _, name := range whole[:min(len(whole), maxDevices)] {
		of[name] = true
	}
	for _, d := range all {
		if of[d.DeviceName] && d.ReadIOs+d.WriteIOs > 0 { // not the many that are never used
			g.Set(telemetry.HostDiskRead, float64(d.ReadSectors)*sector, d.DeviceName)
			g.Set(telemetry.HostDiskWritten, float64(d.WriteSectors)*sector, d.DeviceName)
		}
	}
}

// files measures the file system of the process's own state. Its path is nobody's business.
func files(g *telemetry.Reading, path string) {
	var s syscall.Statfs_t
	if syscall.Statfs(path, &s) != nil || s.Bsize <= 0 {
		return
	}
	g.Set(telemetry.HostFilesystemSize, float64(s.Blocks)*float64(s.Bsize), "data")
	g.Set(telemetry.HostFilesystemAvailable, float64(s.Bavail)*float64(s.Bsize), "data")
}
