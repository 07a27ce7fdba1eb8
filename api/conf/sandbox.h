/* The sandbox that a process shuts around itself: which files it may reach (Landlock), which system
 * calls it may make (seccomp). One for each process; there is no way back.
 *
 * A forbidden call ends the process by SIGSYS, most of them after one line that names the call. */
#ifndef PFX_CONF_SANDBOX_H
#define PFX_CONF_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/result.h"

enum pfx_sandbox_for {
    PFX_SANDBOX_AGENTD,      /* files of its own, sockets that it listens on; no thread, no child */
    PFX_SANDBOX_HSM,         /* ... and threads, and what a PKCS#11 module does on this host */
    PFX_SANDBOX_HSM_NETWORK, /* ... and a module that speaks to its HSM by TCP or UDP */
    PFX_SANDBOX_UPLOADER,    /* the network, and no file that it could write */
};
enum pfx_reach {
    PFX_REACH_READ,   /* this file, or all that is below this folder */
    PFX_REACH_WRITE,  /* ... and make, change, rename and remove there */
    PFX_REACH_DEVICE, /* ... and speak to devices there (ioctl) */
};

struct pfx_sandbox;
struct pfx_sandbox *pfx_sandbox_new(enum pfx_sandbox_for whom);
void pfx_sandbox_free(struct pfx_sandbox *sandbox);
static inline void pfx_sandbox_freep(struct pfx_sandbox **pp)
{
    pfx_sandbox_free(*pp);
}
/* One more path; NULL, and what isn't there, is passed over. Links are followed once, now. */
void pfx_sandbox_path(struct pfx_sandbox *sandbox, const char *path, enum pfx_reach reach);
/* The folder that a file is in: for files that are replaced by renaming. */
void pfx_sandbox_folder_of(struct pfx_sandbox *sandbox, const char *path, enum pfx_reach reach);
/* Where users and groups are looked up, and what the C library wants to have loaded for that. */
void pfx_sandbox_accounts(struct pfx_sandbox *sandbox);
/* How names of hosts are resolved. */
void pfx_sandbox_resolver(struct pfx_sandbox *sandbox);
/* TCP connections may go to the port of this URL. Without any: to none. */
void pfx_sandbox_url(struct pfx_sandbox *sandbox, const char *url);
/* Libraries may still be mapped for running, from files that Landlock lets it read. */
void pfx_sandbox_late_code(struct pfx_sandbox *sandbox);

/* Landlock, and limits on resources: while there is one thread, which passes both on. A kernel that
 * has no Landlock is warned of in the log, and no failure. */
PFX_MUST_USE pfx_result pfx_sandbox_files(struct pfx_sandbox *sandbox, struct pfx_error *err);
/* The filter of system calls, for all threads. INTERNAL where the kernel has none. */
PFX_MUST_USE pfx_result pfx_sandbox_calls(struct pfx_sandbox *sandbox, struct pfx_error *err);

/* "seccomp, Landlock 7, memory locked, memfd_secret": what holds in this process (Landlock by the
 * number of its ABI, pfx_secret_hidden; "NO ..." what is missing). True: all. */
bool pfx_sandbox_text(char *buf, size_t size);
#define PFX_SANDBOX_TEXT 200
/* Has the kernel Landlock as we need it? */
bool pfx_sandbox_landlock(void);

#endif
