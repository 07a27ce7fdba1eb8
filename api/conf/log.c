/* The log of a program: one line on stderr, one write. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/conf/process.h"
#include "crypto/encode.h"

#define LINE_MAX_BYTES 2048

static enum pfx_log_level most = PFX_LOG_INFO;

void pfx_log_level_set(enum pfx_log_level level)
{
    most = level;
}

/* systemd names device and inode of the journal's socket: stderr may be something else by now. */
static bool to_journal(void)
{
    static int known = -1;
    if (known < 0) {
        const char *stream = getenv("JOURNAL_STREAM");
        struct stat st;
        char here[64] = "";
        if (stream && fstat(STDERR_FILENO, &st) == 0)
            snprintf(here, sizeof(here), "%llu:%llu", (unsigned long long)st.st_dev,
                     (unsigned long long)st.st_ino);
        known = stream && strcmp(stream, here) == 0;
    }
    return known != 0;
}

/* Names and server texts come in here: they must not forge a line or speak to the terminal. */
static void clean(char *text)
{
    bool utf8 = pfx_utf8_valid(text, strlen(text));
    for (unsigned char *p = (unsigned char *)text; *p; p++) {
        bool c1 = *p == 0xC2 && p[1] >= 0x80 && p[1] <= 0x9F; /* U+0080 to U+009F */
        if (*p < 0x20 || *p == 0x7F || (*p >= 0x80 && !utf8)) {
            *p = '?';
        } else if (c1) {
            p[0] = p[1] = '?';
            p++;
        }
    }
}

/* Cuts a text that was too long where a character starts. */
static void cut(char *text, size_t size)
{
    size_t len = size - 1;
    while (len > 0 && ((unsigned char)text[len - 1] & 0xC0) == 0x80)
        len--;
    if (len > 0 && (unsigned char)text[len - 1] >= 0xC0)
        len--;
    text[len] = 0;
}

static PFX_PRINTF(2, 0) void put(enum pfx_log_level level, const char *fmt, va_list args,
                                 const char *more)
{
    static const char *const words[] = {"error", "warning", "info", "debug"};
    static const int priorities[] = {3, 4, 6, 7};
    char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES + 64], stamp[PFX_TIME_SIZE];
    int n = vsnprintf(text, sizeof(text), fmt, args);
    if (n < 0)
        return;
    if ((size_t)n < sizeof(text) && more) {
        int m = snprintf(text + n, sizeof(text) - (size_t)n, "%s%s", n > 0 ? ": " : "", more);
        n = m < 0 ? n : n + m;
    }
    if ((size_t)n >= sizeof(text))
        cut(text, sizeof(text));
    clean(text);
    if (to_journal())
        n = snprintf(line, sizeof(line), "<%d>%s\n", priorities[level], text);
    else
        n = snprintf(line, sizeof(line), "%s %s: %s\n",
                     pfx_time_format(pfx_now_ms(), true, stamp), words[level], text);
    /* A log that can't be written is no reason to stop, and there is nowhere to say so. */
    if (n > 0)
        (void)!write(STDERR_FILENO, line, (size_t)n);
}

void pfx_log(enum pfx_log_level level, const char *fmt, ...)
{
    if (level > most)
        return;
    va_list args;
    va_start(args, fmt);
    put(level, fmt, args, NULL);
    va_end(args);
}

void pfx_log_error(const struct pfx_error *err, const char *fmt, ...)
{
    char line[1024];
    va_list args;
    va_start(args, fmt);
    put(PFX_LOG_ERROR, fmt, args, pfx_error_line(err, line, sizeof(line)));
    va_end(args);
}
