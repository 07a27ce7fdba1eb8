/* What every program does first, and how it speaks to its log. */
#ifndef PFX_CONF_PROCESS_H
#define PFX_CONF_PROCESS_H

#include "crypto/mem.h"
#include "crypto/result.h"

#include <stdint.h>

/* Not dumpable, no core file, umask 077, SIGPIPE ignored, file descriptors 0 to 2 open, no new
 * privileges, secret memory set up. Ends the process if any of it fails. */
void pfx_process_harden(const char *name);

/* Locks all memory of the process, once it is used, where it may lock without a limit: for the
 * copies of secrets that libraries make. The secrets themselves are locked by their type. */
void pfx_process_lock(void);
bool pfx_process_locked(void); /* did it? */

/* SIGTERM and SIGINT as a readable descriptor (signalfd); one for each process. */
PFX_MUST_USE pfx_result pfx_process_signals(int *ret_fd, struct pfx_error *err);

enum pfx_log_level { PFX_LOG_ERROR, PFX_LOG_WARN, PFX_LOG_INFO, PFX_LOG_DEBUG };
/* One line on stderr: time and level, or systemd's "<3>" prefix where stderr is the journal. Only
 * programs log; libraries return errors. Control characters in arguments are shown as '?'. */
void pfx_log(enum pfx_log_level level, const char *fmt, ...) PFX_PRINTF(2, 3);
void pfx_log_error(const struct pfx_error *err, const char *fmt, ...) PFX_PRINTF(2, 3);
void pfx_log_level_set(enum pfx_log_level level);

int64_t pfx_now_ms(void);       /* CLOCK_REALTIME */
int64_t pfx_uptime_ms(void);    /* CLOCK_BOOTTIME: for time-outs */

/* The whole file, at most max bytes; refuses anything but a regular file. */
PFX_MUST_USE pfx_result pfx_file_read(const char *path, size_t max, struct pfx_buf *out,
                                      struct pfx_error *err);
/* The same for a root-owned file: owner must be root or this process's uid, not writable for group
 * or others, nor any parent folder (sticky ones excepted). INTEGRITY with what to change. */
PFX_MUST_USE pfx_result pfx_file_read_trusted(const char *path, size_t max, struct pfx_buf *out,
                                              struct pfx_error *err);
/* Writes path.new, fsync, rename, fsync of the folder. */
PFX_MUST_USE pfx_result pfx_file_replace(const char *path, const void *data, size_t len,
                                         unsigned mode, struct pfx_error *err);

#endif
