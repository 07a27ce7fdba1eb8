/* Inside of the configuration: the rows of an option table and what reads them. */
#ifndef PFX_CONF_TABLE_H
#define PFX_CONF_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/mem.h"
#include "crypto/result.h"

enum pfx_opt_type {  /* the field: */
    PFX_O_TEXT,      /* char *: min to max bytes */
    PFX_O_NAME,      /* char *: a-z, 0-9 and -; at most max */
    PFX_O_ACCOUNT,   /* char *: name of a user or group */
    PFX_O_PATH,      /* char *: absolute; at most max bytes */
    PFX_O_PIN_FILE,  /* char *: absolute, or the name of a systemd credential */
    PFX_O_GUID,      /* char *: in lower case */
    PFX_O_URL,       /* char *: https, without a slash at its end */
    PFX_O_PROXY,     /* char *: http or https, host and port */
    PFX_O_TOKEN,     /* char *: RFC 7512 URI of one token */
    PFX_O_COUNT,     /* unsigned */
    PFX_O_NUMBER,    /* int64_t */
    PFX_O_BOOL,      /* bool */
    PFX_O_DURATION,  /* int64_t, ms; "never" is 0 where min is 0 */
    PFX_O_DAYS,      /* int64_t, days */
    PFX_O_PERIOD,    /* struct pfx_period: days, at most max, or as many months */
    PFX_O_SIZE,      /* int64_t, bytes */
    PFX_O_RATE,      /* struct pfx_rate_conf */
    PFX_O_ENUM,      /* an enum: min plus the place in choices */
    PFX_O_WORD,      /* char *: one of choices */
    PFX_O_FLAG,      /* bool: the second of two choices */
    PFX_O_SET,       /* bool[]: a list of some of choices */
    PFX_O_VALIDITY,  /* int years, days */
    PFX_O_LIST,      /* pointer to elements and size_t count: a list of maps, rows "path[]." */
    PFX_O_NEVER,     /* known, refused: help says why */
};
struct pfx_option {
    const char *path;
    enum pfx_opt_type type;
    size_t offset;       /* of the field, in the struct of the file or of the list element */
    size_t count_offset; /* PFX_O_LIST: of the count */
    size_t size;         /* PFX_O_LIST: of an element */
    int64_t min, max;
    const char *def;     /* as it would stand in the file; NULL: none */
    const char *sample;  /* for the example file, where def is NULL */
    const char *choices; /* "a|b|c" */
    bool required;
    const char *help;
};
struct pfx_conf_reader;
struct pfx_option_table {
    const char *name; /* "agent.yaml" */
    const char *about;
    const struct pfx_option *rows;
    size_t n_rows;
    size_t size;  /* of the struct */
    bool trusted; /* read by pfx_file_read_trusted */
    /* What no single row can see: reports mistakes and fills defaults that follow from others. */
    void (*finish)(struct pfx_conf_reader *reader, void *conf);
};
extern const struct pfx_option_table pfx_agent_table, pfx_uploader_table, pfx_policy_table;

/* The field of a row from its text (a default, or a scalar of the file; plain: without quotes).
 * False leaves the field alone; *ret_why, where it isn't NULL afterwards, says more than
 * pfx_option_expects, and never holds a part of the text. */
PFX_MUST_USE bool pfx_option_parse(const struct pfx_option *row, const char *text, bool plain,
                                   void *field, const char **ret_why);
/* Marks one of choices in a PFX_O_SET. */
PFX_MUST_USE bool pfx_option_parse_member(const struct pfx_option *row, const char *text,
                                          bool *field);
/* "a duration from 1m to 30d, such as 6h": appended. */
void pfx_option_expects(const struct pfx_option *row, struct pfx_buf *out);
bool pfx_option_is_text(enum pfx_opt_type type); /* does the field own a string? */

/* One reading of one file: collects its mistakes. err gets the first, report (may be NULL) all. */
struct pfx_conf_reader *pfx_reader_new(const char *path, struct pfx_buf *report,
                                       struct pfx_error *err);
void pfx_reader_free(struct pfx_conf_reader *reader);
size_t pfx_reader_mistakes(const struct pfx_conf_reader *reader);
void pfx_reader_mistake(struct pfx_conf_reader *reader, unsigned line, const char *option,
                        const char *fmt, ...) PFX_PRINTF(4, 5);
/* Notes that an option of this struct was given, or asks for its line; 0: it wasn't. The path of a
 * list with "[]" stands for its element as a whole. */
void pfx_reader_note(struct pfx_conf_reader *reader, const void *base, const char *path,
                     unsigned line);
unsigned pfx_reader_line(const struct pfx_conf_reader *reader, const void *base, const char *path);
/* Fills a struct from the text of a file; never NULL, whatever the mistakes are. */
void *pfx_reader_fill(struct pfx_conf_reader *reader, const struct pfx_option_table *table,
                      struct pfx_bytes text);

/* Reads and checks the file; USAGE with the first mistake. text gets its bytes. */
PFX_MUST_USE pfx_result pfx_table_load(const struct pfx_option_table *table, const char *path,
                                       struct pfx_buf *text, void **ret_conf,
                                       struct pfx_error *err);
void pfx_table_free(const struct pfx_option_table *table, void *conf);

/* sandbox.secret_memory, which two of the files have (enum pfx_secret_memory). */
#define PFX_SECRET_CHOICES "auto|locked|memfd_secret"
#define PFX_SECRET_HELP                                                                            \
    "memory of PINs, passwords and keys. memfd_secret: pages that the kernel takes out of its own " \
    "map, so that reading a process's memory from outside fails there, for root too; auto: these "  \
    "where the kernel has them, else locked pages"

#define PFX_CONF_FILE_MAX ((size_t)1024 * 1024)

#define PFX_SECONDS(n) ((int64_t)(n) * 1000)
#define PFX_MINUTES(n) ((int64_t)(n) * 60000)
#define PFX_HOURS(n) ((int64_t)(n) * 3600000)
#define PFX_DAYS(n) ((int64_t)(n) * 86400000)

#endif
