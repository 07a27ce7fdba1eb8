/* Findings are counted and the first of each kind kept. */
#include "agent/audit/report.h"

#include <stdarg.h>
#include <string.h>

#include "agent/audit/audit.h"
#include "crypto/encode.h"

#define OPEN_MOST 200

const char *pfx_finding_class_name(enum pfx_finding_class cls)
{
    static const char *const names[PFX_FOUND_CLASSES] = {
        "form", "sequence", "tree",    "signature", "consistency",
        "key",  "anchor",   "missing", "uncovered", "meaning"};
    return names[cls];
}

const char *pfx_finding_level_name(enum pfx_finding_level level)
{
    static const char *const names[PFX_LEVELS] = {"tampering", "finding", "warning"};
    return names[level];
}

struct pfx_report *pfx_report_new(void)
{
    return pfx_alloc(sizeof(struct pfx_report));
}

void pfx_report_free(struct pfx_report *report)
{
    if (!report)
        return;
    for (size_t level = 0; level < PFX_LEVELS; level++)
        for (size_t cls = 0; cls < PFX_FOUND_CLASSES; cls++)
            for (size_t i = 0; i < report->found[level][cls].n; i++)
                free(report->found[level][cls].kept[i].text);
    for (size_t i = 0; i < report->n_logs; i++)
        free(report->logs[i]);
    for (size_t i = 0; i < report->n_open; i++)
        free(report->open[i].text);
    free(report->logs);
    free(report->open);
    free(report);
}

struct pfx_report_log *pfx_report_log(struct pfx_report *report, const char *path)
{
    report->logs = pfx_grow(report->logs, report->n_logs + 1, sizeof(*report->logs));
    struct pfx_report_log *log = pfx_alloc(sizeof(*log));
    log->path = path;
    report->logs[report->n_logs++] = log;
    return log;
}

uint32_t pfx_report_logs(const struct pfx_report *report)
{
    return (uint32_t)report->n_logs;
}

struct pfx_report_log *pfx_report_log_at(struct pfx_report *report, uint32_t log)
{
    return report->logs[log];
}

/* Does a character begin here that shows as nothing, or turns the direction of what follows round? */
static bool hides(const unsigned char *at)
{
    return (at[0] == 0xc2 && at[1] == 0xad) || (at[0] == 0xd8 && at[1] == 0x9c) ||
           (at[0] == 0xe2 && at[1] == 0x80 && /* U+200B to 200F, 2028 to 202E */
            ((at[2] >= 0x8b && at[2] <= 0x8f) || (at[2] >= 0xa8 && at[2] <= 0xae))) ||
           (at[0] == 0xe2 && at[1] == 0x81 && at[2] >= 0xa0 && at[2] <= 0xaf) ||
           (at[0] == 0xef && at[1] == 0xbb && at[2] == 0xbf);
}

/* Words of a log come from whoever wrote it: a terminal must not obey them. */
PFX_PRINTF(1, 0) static char *clean_text(const char *fmt, va_list ap)
{
    char text[PFX_FINDING_TEXT];
    vsnprintf(text, sizeof(text), fmt, ap);
    size_t len = strlen(text);
    while (len > 0 && !pfx_utf8_valid(text, len) && len + 4 > sizeof(text) - 1)
        text[--len] = '\0'; /* cut in the middle of a character */
    bool utf8 = pfx_utf8_valid(text, len);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f || (!utf8 && (unsigned char)*c > 0x7e))
            *c = '?';
    /* C1 controls are C2 80 to C2 9F. */
    for (char *c = text; c[0]; c++)
        if (utf8 && (unsigned char)c[0] == 0xc2 && (unsigned char)c[1] < 0xa0)
            c[0] = c[1] = '?';
    for (char *c = text; utf8 && *c; c++)
        if (hides((const unsigned char *)c))
            memset(c, '?', (unsigned char)*c < 0xe0 ? 2 : 3);
    return pfx_strdup(text);
}

static bool comes_before(const struct pfx_finding *a, uint32_t log, uint64_t entry)
{
    return a->log < log || (a->log == log && a->entry <= entry);
}

void pfx_report_add(struct pfx_report *report, enum pfx_finding_level level,
                    enum pfx_finding_class cls, uint32_t log, uint64_t entry, const char *fmt, ...)
{
    struct pfx_findings *found = &report->found[level][cls];
    found->count++;
    size_t at = found->n;
    while (at > 0 && !comes_before(&found->kept[at - 1], log, entry))
        at--;
    if (at == PFX_FINDINGS_KEPT)
        return;
    if (found->n == PFX_FINDINGS_KEPT)
        free(found->kept[--found->n].text);
    memmove(&found->kept[at + 1], &found->kept[at], (found->n - at) * sizeof(found->kept[0]));
    va_list ap;
    va_start(ap, fmt);
    found->kept[at] = (struct pfx_finding){log, entry, clean_text(fmt, ap)};
    va_end(ap);
    found->n++;
}

uint64_t pfx_report_count(const struct pfx_report *report, enum pfx_finding_level level,
                          enum pfx_finding_class cls)
{
    return report->found[level][cls].count;
}

void pfx_report_open(struct pfx_report *report, uint32_t log, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *text = clean_text(fmt, ap);
    va_end(ap);
    bool known = report->n_open >= OPEN_MOST;
    for (size_t i = 0; !known && i < report->n_open; i++)
        known = report->open[i].log == log && strcmp(report->open[i].text, text) == 0;
    if (known) {
        free(text);
        return;
    }
    report->open = pfx_grow(report->open, report->n_open + 1, sizeof(*report->open));
    report->open[report->n_open++] = (struct pfx_finding){log, PFX_NO_ENTRY, text};
}

static uint64_t level_count(const struct pfx_report *report, enum pfx_finding_level level)
{
    uint64_t n = 0;
    for (size_t cls = 0; cls < PFX_FOUND_CLASSES; cls++)
        n += report->found[level][cls].count;
    return n;
}

int pfx_report_exit(const struct pfx_report *report)
{
    if (level_count(report, PFX_LEVEL_TAMPERING) > 0)
        return PFX_AUDIT_TAMPERING;
    return level_count(report, PFX_LEVEL_FINDING) > 0 ? PFX_AUDIT_FINDING : PFX_AUDIT_OK;
}
