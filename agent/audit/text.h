/*
 * What stands in a log, made fit for a terminal, for JSON and for CSV. Strings of an export are
 * hostile: none of them may move a cursor, hide text, turn its direction round, or become a
 * formula.
 */
#ifndef PFX_AUDIT_TEXT_H
#define PFX_AUDIT_TEXT_H

#include <stdio.h>

#include "crypto/mem.h"

/* Appends text; a control, direction-changing or invisible character becomes "\u202e", a byte that
 * isn't UTF-8 "\xff". The rest stays as it is. A NUL may stand in a C string as the bytes C0 80. */
void pfx_text_show(struct pfx_bytes text, struct pfx_buf *out);
void pfx_text_show_str(const char *text, struct pfx_buf *out);
/* Characters of shown text (wide ones count as one). */
size_t pfx_text_columns(const char *shown);
/* The line to stdout with an LF; on a terminal that is narrower, wrapped between words, and what
 * goes on is indented. */
void pfx_text_line(const char *shown);
/* On stderr, shown. */
void pfx_text_say(const char *fmt, ...) PFX_PRINTF(1, 2);
/* Words wrapped at 78 columns, to stdout; lines after the first are indented as far. */
void pfx_text_paragraph(const char *text, const char *indent);

/* A JSON string with its quotes, in ASCII where a character is harmful; U+FFFD for bad bytes. */
void pfx_text_json(struct pfx_bytes text, struct pfx_buf *out);
/* JSON that was read already: harmful characters in its strings become \u escapes. */
void pfx_text_json_again(struct pfx_bytes json, struct pfx_buf *out);

/* One JSON object on a line: "schema" first, members as they are added. A NULL string and a
 * negative integer of pfx_json_opt are left out. */
struct pfx_json {
    struct pfx_buf line;
    bool more; /* a comma is due */
};
struct pfx_json pfx_json_make(const char *schema); /* "pfx-audit/show/1" */
void pfx_json_str(struct pfx_json *json, const char *key, const char *text);
void pfx_json_int(struct pfx_json *json, const char *key, int64_t value);
void pfx_json_opt(struct pfx_json *json, const char *key, int64_t value);
void pfx_json_bool(struct pfx_json *json, const char *key, bool value);
void pfx_json_raw(struct pfx_json *json, const char *key, struct pfx_bytes value);
void pfx_json_open(struct pfx_json *json, const char *key, char bracket); /* key NULL in arrays */
void pfx_json_close(struct pfx_json *json, char bracket);
/* "signed_by": the lines of those of the keys whose bit is set. */
struct pfx_audit_keys;
void pfx_json_signers(struct pfx_json *json, const struct pfx_audit_keys *keys, uint64_t signers);
void pfx_json_print(struct pfx_json *json); /* to stdout, and releases it */

/* CSV (RFC 4180): cells of a row, CRLF at its end. Text that a spreadsheet would take for a formula
 * (= + - @ in front) gets a ' before it. */
void pfx_csv_text(struct pfx_buf *row, const char *text);
void pfx_csv_int(struct pfx_buf *row, int64_t value); /* negative: empty */
void pfx_csv_print(struct pfx_buf *row);              /* to stdout, and empties it */

#endif
