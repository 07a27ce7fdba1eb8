/* The verdict and what it rests on, for people and as JSON. */
#include <inttypes.h>
#include <string.h>

#include "agent/audit/audit.h"
#include "agent/audit/report.h"
#include "crypto/encode.h"

static uint64_t level_count(const struct pfx_report *report, enum pfx_finding_level level)
{
    uint64_t n = 0;
    for (size_t cls = 0; cls < PFX_FOUND_CLASSES; cls++)
        n += report->found[level][cls].count;
    return n;
}

static void put_verdict(const struct pfx_report *report, FILE *out)
{
    uint64_t entries = 0;
    for (size_t i = 0; i < report->n_logs; i++)
        entries += report->logs[i]->examined;
    uint64_t tampering = level_count(report, PFX_LEVEL_TAMPERING);
    uint64_t findings = level_count(report, PFX_LEVEL_FINDING);
    uint64_t warnings = level_count(report, PFX_LEVEL_WARNING);
    if (tampering > 0)
        fprintf(out, "NOT VERIFIED: tampering or damage in %" PRIu64 " place%s", tampering,
                pfx_plural(tampering));
    else if (findings > 0)
        fprintf(out, "FINDINGS: the log is whole, and says %" PRIu64 " thing%s that must not be",
                findings, pfx_plural(findings));
    else
        fprintf(out, "VERIFIED: %zu log%s, %" PRIu64 " %s", report->n_logs, pfx_plural(report->n_logs),
                entries, pfx_entries(entries));
    if (tampering > 0 && findings > 0)
        fprintf(out, ", %" PRIu64 " finding%s", findings, pfx_plural(findings));
    if (warnings > 0)
        fprintf(out, ", %" PRIu64 " warning%s", warnings, pfx_plural(warnings));
    if (report->weak > 0)
        fprintf(out, "; WEAK: %" PRIu64 " command%s without anybody's signature", report->weak,
                pfx_plural(report->weak));
    fputc('\n', out);
}

static void put_log(const struct pfx_report_log *log, FILE *out)
{
    char from[PFX_TIME_SIZE] = "?", to[PFX_TIME_SIZE] = "?";
    if (log->from_ms)
        pfx_time_format(log->from_ms, false, from);
    if (log->to_ms)
        pfx_time_format(log->to_ms, false, to);
    fprintf(out, "  %s: %" PRIu64 " %s", log->origin[0] ? log->origin : log->path, log->size,
            pfx_entries(log->size));
    if (log->examined != log->size)
        fprintf(out, " (%" PRIu64 " examined, from number %" PRIu64 ")", log->examined, log->first);
    fprintf(out, ", %s to %s, %" PRIu64 " checkpoint%s", from, to, log->checkpoints,
            pfx_plural(log->checkpoints));
    if (log->signers[0])
        fprintf(out, ", the newest signed by %s", log->signers);
    fputc('\n', out);
}

static void put_findings(const struct pfx_report *report, enum pfx_finding_level level, FILE *out)
{
    static const char *const titles[PFX_LEVELS] = {"Tampering or damage", "Findings", "Warnings"};
    if (level_count(report, level) == 0)
        return;
    fprintf(out, "\n%s:\n", titles[level]);
    for (size_t cls = 0; cls < PFX_FOUND_CLASSES; cls++) {
        const struct pfx_findings *found = &report->found[level][cls];
        size_t shown = found->n < PFX_FINDINGS_SHOWN ? found->n : PFX_FINDINGS_SHOWN;
        for (size_t i = 0; i < shown; i++) {
            const struct pfx_finding *one = &found->kept[i];
            fprintf(out, "  %-11s ", pfx_finding_class_name((enum pfx_finding_class)cls));
            if (report->n_logs > 1 && one->log != PFX_NO_LOG)
                fprintf(out, "%s: ",
                        report->logs[one->log]->origin[0] ? report->logs[one->log]->origin
                                                          : report->logs[one->log]->path);
            if (one->entry != PFX_NO_ENTRY)
                fprintf(out, "entry %" PRIu64 ": ", one->entry);
            fprintf(out, "%s\n", one->text);
        }
        if (found->count > shown)
            fprintf(out, "  %-11s and %" PRIu64 " more\n",
                    pfx_finding_class_name((enum pfx_finding_class)cls), found->count - shown);
    }
}

void pfx_report_text(const struct pfx_report *report, FILE *out)
{
    put_verdict(report, out);
    for (size_t i = 0; i < report->n_logs; i++)
        put_log(report->logs[i], out);
    for (unsigned level = 0; level < PFX_LEVELS; level++)
        put_findings(report, (enum pfx_finding_level)level, out);
    fputs("\nNot proven:\n", out);
    for (size_t i = 0; i < report->n_open; i++) {
        fputs("  - ", out);
        if (report->n_logs > 1 && report->open[i].log != PFX_NO_LOG)
            fprintf(out, "%s: ", report->logs[report->open[i].log]->origin);
        fprintf(out, "%s\n", report->open[i].text);
    }
}

static struct pfx_bytes text_bytes(const char *text)
{
    /* A path may be anything; JSON is UTF-8. */
    if (!pfx_utf8_valid(text, strlen(text)))
        text = "?";
    return (struct pfx_bytes){(const uint8_t *)text, strlen(text)};
}

static void json_count(struct pfx_canon *canon, const char *key, uint64_t value)
{
    pfx_canon_int(canon, key,
                  value > (uint64_t)PFX_CANON_INT_MAX ? PFX_CANON_INT_MAX : (int64_t)value);
}

static void json_findings(const struct pfx_report *report, struct pfx_canon *canon)
{
    pfx_canon_open(canon, "counts", '{');
    /* Classes in the order of their names. */
    static const enum pfx_finding_class sorted[PFX_FOUND_CLASSES] = {
        PFX_FOUND_ANCHOR,  PFX_FOUND_CONSISTENCY, PFX_FOUND_FORM,     PFX_FOUND_KEY,
        PFX_FOUND_MEANING, PFX_FOUND_MISSING,     PFX_FOUND_SEQUENCE, PFX_FOUND_SIGNATURE,
        PFX_FOUND_TREE,    PFX_FOUND_UNCOVERED};
    for (size_t i = 0; i < PFX_FOUND_CLASSES; i++) {
        uint64_t n = 0;
        for (size_t level = 0; level < PFX_LEVELS; level++)
            n += report->found[level][sorted[i]].count;
        json_count(canon, pfx_finding_class_name(sorted[i]), n);
    }
    pfx_canon_close(canon, '}');
    pfx_canon_int(canon, "exit", pfx_report_exit(report));
    pfx_canon_open(canon, "findings", '[');
    for (size_t level = 0; level < PFX_LEVELS; level++)
        for (size_t cls = 0; cls < PFX_FOUND_CLASSES; cls++)
            for (size_t i = 0; i < report->found[level][cls].n; i++) {
                const struct pfx_finding *one = &report->found[level][cls].kept[i];
                const char *name = pfx_finding_class_name((enum pfx_finding_class)cls);
                const char *how = pfx_finding_level_name((enum pfx_finding_level)level);
                pfx_canon_open(canon, NULL, '{');
                pfx_canon_str(canon, "class", text_bytes(name));
                if (one->entry != PFX_NO_ENTRY)
                    json_count(canon, "entry", one->entry);
                pfx_canon_str(canon, "level", text_bytes(how));
                if (one->log != PFX_NO_LOG)
                    pfx_canon_int(canon, "log", one->log);
                pfx_canon_str(canon, "text", text_bytes(one->text));
                pfx_canon_close(canon, '}');
            }
    pfx_canon_close(canon, ']');
}

static void json_log(const struct pfx_report_log *log, struct pfx_canon *canon)
{
    char text[2 * PFX_HASH_SIZE + 1];
    pfx_canon_open(canon, NULL, '{');
    json_count(canon, "checkpoints", log->checkpoints);
    json_count(canon, "examined", log->examined);
    json_count(canon, "first", log->first);
    if (log->from_ms)
        pfx_canon_str(canon, "from", text_bytes(pfx_time_format(log->from_ms, true, text)));
    pfx_canon_str(canon, "origin", text_bytes(log->origin));
    pfx_canon_str(canon, "path", text_bytes(log->path));
    pfx_canon_str(canon, "root", text_bytes(pfx_hex(log->root.bytes, PFX_HASH_SIZE, text)));
    pfx_canon_str(canon, "signers", text_bytes(log->signers));
    json_count(canon, "size", log->size);
    if (log->to_ms)
        pfx_canon_str(canon, "to", text_bytes(pfx_time_format(log->to_ms, true, text)));
    json_count(canon, "uncovered", log->tail);
    pfx_canon_close(canon, '}');
}

void pfx_report_json(const struct pfx_report *report, FILE *out)
{
    static const char *const verdicts[] = {"verified", "findings"};
    int code = pfx_report_exit(report);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make((size_t)32 << 20);
    struct pfx_canon canon = pfx_canon_make(&text);
    pfx_canon_open(&canon, NULL, '{');
    json_findings(report, &canon);
    pfx_canon_open(&canon, "logs", '[');
    for (size_t i = 0; i < report->n_logs; i++)
        json_log(report->logs[i], &canon);
    pfx_canon_close(&canon, ']');
    pfx_canon_open(&canon, "not_proven", '[');
    for (size_t i = 0; i < report->n_open; i++) {
        pfx_canon_open(&canon, NULL, '{');
        if (report->open[i].log != PFX_NO_LOG)
            pfx_canon_int(&canon, "log", report->open[i].log);
        pfx_canon_str(&canon, "text", text_bytes(report->open[i].text));
        pfx_canon_close(&canon, '}');
    }
    pfx_canon_close(&canon, ']');
    pfx_canon_str(&canon, "schema", text_bytes("pfx-audit/verify/1"));
    pfx_canon_str(&canon, "verdict", text_bytes(code > 1 ? "tampering" : verdicts[code]));
    json_count(&canon, "weak", report->weak);
    pfx_canon_close(&canon, '}');
    fwrite(text.data, 1, text.len, out);
    fputc('\n', out);
}
