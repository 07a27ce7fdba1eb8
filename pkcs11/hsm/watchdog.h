/* Ends the process when a Cryptoki call hangs: nothing else gets a thread out of a module. Whoever
 * started pfx-hsm starts it again; pfx-agentd's outbox knows what was being done. */
#ifndef PFX_HSM_WATCHDOG_H
#define PFX_HSM_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

#include "crypto/result.h"

#define PFX_WATCHDOG_EXIT 70
/* Starts the watching thread and hooks pfx_cryptoki_trace; before any module is loaded. */
PFX_MUST_USE pfx_result pfx_watchdog_start(int64_t call_deadline_ms, struct pfx_error *err);
void pfx_watchdog_stop(void);
/* The watching thread itself is alive, and found no call over its deadline when it last looked. */
bool pfx_watchdog_well(void);

#endif
