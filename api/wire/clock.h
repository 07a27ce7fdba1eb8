/* Time for time-outs: goes on while the machine sleeps and is never set. */
#ifndef PFX_WIRE_CLOCK_H
#define PFX_WIRE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t pfx_wire_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#endif
