// Stands in for NVIDIA's library: its names, its calling conventions, two GPUs.
#include <stdio.h>
#include <string.h>

typedef struct { int index; } *device;
static struct { int index; } all[2] = {{0}, {1}};
typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;

static int begun;

int nvmlInit_v2(void) { begun = 1; return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { if (!begun) return 1; *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, device *d) { if (i > 1) return 2; *d = (device)&all[i]; return 0; }
int nvmlDeviceGetName(device d, char *s, unsigned n) { return snprintf(s, n, "Stand-in %d", d->index) < (int)n ? 0 : 7; }
int nvmlDeviceGetUUID(device d, char *s, unsigned n) { return snprintf(s, n, "GPU-%08d", d->index) < (int)n ? 0 : 7; }
int nvmlDeviceGetUtilizationRates(device d, utilization *u) { u->gpu = 90 + d->index; u->memory = 30; return 0; }
int nvmlDeviceGetMemoryInfo_v2(device d, memory_v2 *m) {
  (void)d;
  if (m->version != (sizeof(memory_v2) | 2u << 24)) return 25;
  m->total = 142ull << 20; m->reserved = 2ull << 20; m->free = 100ull << 20; m->used = 40ull << 20;
  return 0;
}
int nvmlDeviceGetTemperature(device d, int sensor, unsigned *v) { if (sensor != 0) return 2; *v = 40 + d->index; return 0; }
int nvmlDeviceGetClockInfo(device d, int kind, unsigned *v) {
  switch (kind) {
  case 1: *v = 1400 + d->index; return 0;
  case 2: *v = 2600 + d->index; return 0;
  }
  return 2;
}
int nvmlDeviceGetPowerUsage(device d, unsigned *v) { (void)d; *v = 123500; return 0; }
int nvmlDeviceGetTotalEnergyConsumption(device d, unsigned long long *v) { (void)d; *v = 5000000000ull; return 0; }
int nvmlDeviceGetEncoderUtilization(device d, unsigned *v, unsigned *period) { (void)d; *v = 7; *period = 1; return 0; }
int nvmlDeviceGetPcieReplayCounter(device d, unsigned *v) { (void)d; *v = 3; return 0; }
