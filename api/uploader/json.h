/*
 * Reading the services' JSON answers, which are hostile until shown otherwise.
 *
 * cJSON only parses here. Its lookup isn't used: it ignores case, and takes the first of doubled
 * members. A reader remembers the first thing that is wrong, so that code reads a whole object and
 * looks once.
 */
#ifndef PFX_UPLOADER_JSON_H
#define PFX_UPLOADER_JSON_H

#include <cjson/cJSON.h>

#include "crypto/mem.h"
#include "crypto/result.h"

struct pfx_doc {
    cJSON *root;
    bool bad;      /* something read was missing, doubled, or of another type */
    char why[160]; /* which member, and what is wrong with it; no value */
};

#define PFX_DOC_MAX_DEPTH 32
#define PFX_DOC_MAX_VALUES 600000 /* a parsed value takes some 80 bytes, whatever its text */

/* The whole of text must be one JSON value in UTF-8. False: *ret_doc is untouched and why says what
 * is wrong. Not accepted: deeper or with more values than above, NUL in a string. */
PFX_MUST_USE bool pfx_doc_parse(struct pfx_bytes text, struct pfx_doc *ret_doc, char why[160]);
void pfx_doc_done(struct pfx_doc *doc); /* usable as cleanup */

#define PFX_DOC_NEED true
#define PFX_DOC_MAY false
/*
 * A member of obj by its exact name. Absent, or null: NULL, 0, false; bad if it is needed. Another
 * type, or twice there: bad. Strings are borrowed until pfx_doc_done. obj may be NULL (reads as an
 * empty object).
 */
const char *pfx_doc_str(struct pfx_doc *doc, const cJSON *obj, const char *name, bool need);
/* Exact, from 0 to 2^52. */
int64_t pfx_doc_int(struct pfx_doc *doc, const cJSON *obj, const char *name, bool need);
bool pfx_doc_bool(struct pfx_doc *doc, const cJSON *obj, const char *name, bool need);
/* PHP writes an empty object as []: an empty array is taken for one, and the reverse. */
const cJSON *pfx_doc_obj(struct pfx_doc *doc, const cJSON *obj, const char *name, bool need);
const cJSON *pfx_doc_array(struct pfx_doc *doc, const cJSON *obj, const char *name, bool need);
/* Is the member there, and not null? */
bool pfx_doc_has(const cJSON *obj, const char *name);
/* Notes that something is wrong unless something else already was. */
void pfx_doc_wrong(struct pfx_doc *doc, const char *name, const char *what);
/* The root as an object: an empty array is taken for one (PHP); otherwise bad, and NULL. */
const cJSON *pfx_doc_root(struct pfx_doc *doc);

/* Writing: appends s in quotes, escaped (RFC 8259 section 7). */
void pfx_doc_put(struct pfx_buf *out, const char *s);
/* ,"name":"value" with the comma unless the text before ends in '{'. */
void pfx_doc_put_member(struct pfx_buf *out, const char *name, const char *value);
void pfx_doc_put_name(struct pfx_buf *out, const char *name);

#endif
