/*
 * Points at which a test program ends itself by SIGKILL: for e2e/test_kill.py.
 *
 * The programs kill-agentd, kill-hsm and kill-uploader are the product's own objects; the linker
 * puts functions of these files around some of the product's (--wrap), which call the real one and
 * name a point before or after it. The name says what happened, with the kind of job, the verb or
 * the operation that it belongs to, so that it is the same in each run.
 *
 * PFX_KILL_FILE names a file of KILL_FILE_SIZE bytes that is mapped, so that neither a point nor
 * its control needs a system call that a sandbox could forbid:
 *
 *   0      1 once the process kills itself
 *   1      1: nothing of the last start is used again
 *   4      bytes of the names at 512, as this machine writes a uint32_t; 0 begins a new list
 *   8      name of the point to end at, with a NUL; "" for none. May be written at any time
 *   512    names of all points that were reached, each once and with a NUL
 *   128 Ki what a program keeps for its next start (kill_memory)
 */
#ifndef PFX_KILL_POINTS_H
#define PFX_KILL_POINTS_H

#include "api/wire/conn.h"
#include "api/wire/messages.h"

#define KILL_FILE_SIZE (512 * 1024)
#define KILL_MEMORY (128 * 1024)
#define KILL_NAME_SIZE 200

/* May not return. From any thread. */
void kill_point(const char *fmt, ...) PFX_PRINTF(1, 2);
/* Zeroed at first, kept over starts; NULL without a file, or where this start is to use nothing. */
void *kill_memory(size_t size);
#define KILL_WRAP(type, name, ...)                                                                 \
    type __real_##name(__VA_ARGS__);                                                               \
    type __wrap_##name(__VA_ARGS__);                                                               \
    type __wrap_##name(__VA_ARGS__)

/* kill_agentd.c: what is told of each message that came; the other programs need none. */
extern void (*kill_came)(const struct pfx_msg *msg, const char *label);

#endif
