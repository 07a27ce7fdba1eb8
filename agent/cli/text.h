/*
 * Text for people: what came over the network made harmless, measured in columns, cut, and laid out
 * in tables. All text is UTF-8.
 */
#ifndef PFX_AGENT_CLI_TEXT_H
#define PFX_AGENT_CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "crypto/mem.h"

/* Reads the locale and what stdout and stderr are. Call once, before anything is printed. */
void cli_text_setup(void);
bool cli_colour(FILE *to); /* a terminal, without NO_COLOR and TERM=dumb */
bool cli_is_terminal(FILE *to);
bool cli_utf8(void);            /* may box and block characters be printed? */
unsigned cli_columns(FILE *to); /* of the terminal; 0: not a terminal, don't cut */
/* For tests: as if both streams were terminals of this width (0: none). */
void cli_text_force(unsigned columns, bool colour);

/* Appends text with every control, direction-changing and invalid character shown as '?'; a line
 * feed and a tab as a space. */
void cli_clean(const char *text, struct pfx_buf *out);
/* Columns that clean text takes: wide characters count 2, combining ones 0. */
size_t cli_width(const char *text);
/* Appends at most columns of clean text, with an ellipsis where something was left out. */
void cli_cut(const char *text, size_t columns, struct pfx_buf *out);
/* Bytes of clean text that make its first line, broken at a space where there is one; *ret_rest: where
 * the next line begins, at the text's end when that was all. At least one character is taken. */
size_t cli_wrap(const char *text, size_t columns, const char **ret_rest);

/* Lines of clean text, each wrapped on a terminal: what continues one is indented by so much. */
void cli_print_lines(FILE *to, size_t indent, const char *text);

enum cli_tone { CLI_PLAIN, CLI_GOOD, CLI_WARN, CLI_BAD, CLI_DIM, CLI_BOLD };
/* The escape sequence for a tone on this stream, or "". */
const char *cli_tone(FILE *to, enum cli_tone tone);
const char *cli_tone_end(FILE *to, enum cli_tone tone);
/* "ok", "warn", "bad"; the states of an enrolment; the decisions of a plan. */
enum cli_tone cli_tone_of(const char *word);

/* A table: columns separated by two spaces. Cells are copied and cleaned. */
struct cli_table;
/* titles: NULL-terminated. flex: the columns that give way on a narrow terminal, one bit each. */
struct cli_table *cli_table_new(const char *const *titles, unsigned flex);
/* They are wrapped then, not cut: for what a person has to read to its end. */
void cli_table_wrap(struct cli_table *table);
void cli_table_free(struct cli_table *table);
static inline void cli_table_freep(struct cli_table **pp)
{
    cli_table_free(*pp);
}
#define CLI_AUTOTABLE __attribute__((cleanup(cli_table_freep)))
/* The next cell, row by row; NULL is shown as "-". */
void cli_table_add(struct cli_table *table, const char *text, enum cli_tone tone);
void cli_table_addf(struct cli_table *table, enum cli_tone tone, const char *fmt, ...)
    PFX_PRINTF(3, 4);
size_t cli_table_rows(const struct cli_table *table);
void cli_table_print(const struct cli_table *table, FILE *to);
void cli_table_print_bare(const struct cli_table *table, FILE *to); /* without the titles */

/* "2026-11-22 08:00" UTC, or "-" for 0. buf has PFX_TIME_SIZE bytes. */
const char *cli_time(int64_t ms, char *buf);
/* "3 min", "2 h", "5 d" between two times. buf has 32 bytes. */
const char *cli_span(int64_t from_ms, int64_t to_ms, char *buf);
/* Appends a JSON string with its quotes. */
void cli_json_str(struct pfx_buf *out, const char *text);

#endif
