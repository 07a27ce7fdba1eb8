/* Tells the service manager that started this process how it is: the sd_notify protocol, spoken
 * without libsystemd (sd_notify(3), "Notes"). Where nobody asked for it every call does nothing.
 * One for each process, and for its main thread only. */
#ifndef PFX_CONF_NOTIFY_H
#define PFX_CONF_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

/* Opens the socket that NOTIFY_SOCKET names, and takes it and the watchdog's variables out of the
 * environment, so that no child speaks in this process's name. Before any sandbox: nothing is
 * opened later. */
void pfx_notify_setup(void);
void pfx_notify_done(void);

/* Once: this process does its work from now on. status: a few words for `systemctl status`. */
void pfx_notify_ready(const char *status);
/* It ends because it was told to. */
void pfx_notify_stopping(void);

/* To be called in each turn of the loop: says that this process is alive, where that is due and the
 * caller finds all well. Returns ms until it wants to be called again; INT64_MAX: never. */
int64_t pfx_notify_beat(bool well, int64_t uptime_ms);

#endif
