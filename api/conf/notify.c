#include "api/conf/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/conf/process.h"

/* Beats in one time-out of the service manager: one that comes late isn't the end. */
#define BEATS 3
#define UNWELL_MS 200 /* until the caller is asked again */
#define READY_WAIT_S 5 /* said once: a manager that is busy is waited for */

static int fd = -1;
/* Kept, and the socket not connected: the manager may make its own anew. */
static struct sockaddr_un address;
static socklen_t address_len;
static int64_t every_ms, beat_at_ms; /* every_ms 0: nobody watches */

static bool read_address(const char *name)
{
    size_t len = strlen(name);
    /* "@" stands for the zero byte of an abstract socket; the other kinds are for virtual machines.
     */
    if ((name[0] != '/' && name[0] != '@') || len < 2 || len >= sizeof address.sun_path)
        return false;
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, name, len);
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (name[0] == '/'));
    return true;
}

static bool number(const char *name, long long *ret)
{
    const char *text = getenv(name);
    char *end;
    if (!text || !*text)
        return false;
    errno = 0;
    *ret = strtoll(text, &end, 10);
    return errno == 0 && *end == '\0';
}

static int64_t watched_ms(void)
{
    long long usec, pid;
    if (!number("WATCHDOG_USEC", &usec) || usec <= 0)
        return 0;
    /* It may have been meant for the process that started this one. */
    if (getenv("WATCHDOG_PID") && (!number("WATCHDOG_PID", &pid) || pid != getpid()))
        return 0;
    int64_t ms = usec / 1000 / BEATS;
    return ms > 0 ? ms : 1;
}

void pfx_notify_setup(void)
{
    const char *name = getenv("NOTIFY_SOCKET");
    if (name && read_address(name)) {
        struct timeval patience = {.tv_sec = READY_WAIT_S};
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0)
            pfx_log(PFX_LOG_WARN, "NOTIFY_SOCKET: no socket: %s", strerror(errno));
        every_ms = fd < 0 ? 0 : watched_ms();
    } else if (name) {
        pfx_log(PFX_LOG_WARN, "NOTIFY_SOCKET: %s isn't the address of a Unix socket", name);
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

void pfx_notify_done(void)
{
    if (fd >= 0)
        close(fd);
    fd = -1;
    every_ms = beat_at_ms = 0;
}

/* A manager that doesn't listen is no reason to stop, and there is nothing to be done about it. */
static void say(const char *text, int flags)
{
    if (fd >= 0)
        (void)!sendto(fd, text, strlen(text), MSG_NOSIGNAL | flags, (const struct sockaddr *)&address,
                      address_len);
}

void pfx_notify_ready(const char *status)
{
    char text[512];
    /* One line: what stands behind a line feed would be another message. */
    int len = snprintf(text, sizeof text, "READY=1\nSTATUS=%s", status);
    for (int i = (int)strlen("READY=1\nSTATUS="); i < len && i < (int)sizeof text - 1; i++)
        if ((unsigned char)text[i] < ' ')
            text[i] = ' ';
    say(text, 0);
}

void pfx_notify_stopping(void)
{
    say("STOPPING=1", MSG_DONTWAIT);
}

int64_t pfx_notify_beat(bool well, int64_t uptime_ms)
{
    if (every_ms == 0)
        return INT64_MAX;
    if (uptime_ms < beat_at_ms)
        return beat_at_ms - uptime_ms;
    if (!well)
        return UNWELL_MS;
    say("WATCHDOG=1", MSG_DONTWAIT);
    beat_at_ms = uptime_ms + every_ms;
    return every_ms;
}
