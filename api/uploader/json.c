#include "api/uploader/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "crypto/encode.h"

/* Looks over the text before cJSON allocates anything for it: nesting, number of values, and the
 * one escape that would cut a string short. */
static const char *survey(const char *text, size_t len)
{
    size_t depth = 0;
    size_t values = 1;
    bool quoted = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (quoted) {
            if (c == '\0')
                return "a string holds a NUL character";
            if (c == '"')
                quoted = false;
            if (c == '\\' && ++i < len && text[i] == 'u' && len - i > 4 &&
                memcmp(text + i + 1, "0000", 4) == 0)
                return "a string holds a NUL character";
            continue;
        }
        switch (c) {
        case '"':
            quoted = true;
            break;
        case '[':
        case '{':
            values++;
            if (++depth > PFX_DOC_MAX_DEPTH)
                return "it is nested too deep";
            break;
        case ']':
        case '}':
            if (depth > 0)
                depth--;
            break;
        case ',':
            if (++values > PFX_DOC_MAX_VALUES)
                return "it has too many values";
            break;
        case '\0':
            return "it holds a NUL character";
        default:
            break;
        }
    }
    return NULL;
}

bool pfx_doc_parse(struct pfx_bytes text, struct pfx_doc *ret_doc, char why[160])
{
    const char *s = (const char *)text.data;
    const char *wrong = NULL;
    if (text.len == 0)
        wrong = "it is empty";
    else if (!pfx_utf8_valid(s, text.len))
        wrong = "it isn't UTF-8";
    else
        wrong = survey(s, text.len);
    if (wrong) {
        snprintf(why, 160, "%s", wrong);
        return false;
    }
    const char *end = NULL;
    cJSON *root = cJSON_ParseWithLengthOpts(s, text.len, &end, false);
    if (!root) {
        size_t at = end && end >= s ? (size_t)(end - s) : 0;
        snprintf(why, 160, "it isn't JSON from byte %zu on", at);
        return false;
    }
    for (; end < s + text.len; end++) {
        if (!strchr(" \t\r\n", *end)) {
            snprintf(why, 160, "something follows the JSON text at byte %zu", (size_t)(end - s));
            cJSON_Delete(root);
            return false;
        }
    }
    *ret_doc = (struct pfx_doc){.root = root};
    return true;
}

void pfx_doc_done(struct pfx_doc *doc)
{
    cJSON_Delete(doc->root);
    doc->root = NULL;
}

void pfx_doc_wrong(struct pfx_doc *doc, const char *name, const char *what)
{
    if (doc->bad)
        return;
    doc->bad = true;
    snprintf(doc->why, sizeof doc->why, "%s %s", name, what);
}

/* The member called exactly name; doubled is bad, since two readers could take different ones. */
static const cJSON *member(struct pfx_doc *doc, const cJSON *obj, const char *name, bool need)
{
    const cJSON *found = NULL;
    for (const cJSON *item = obj ? obj->child : NULL; item; item = item->next) {
        if (!item->string || strcmp(item->string, name) != 0)
            continue;
        if (found) {
            pfx_doc_wrong(doc, name, "is there twice");
            return NULL;
        }
        found = item;
    }
    if (found && cJSON_IsNull(found))
        found = NULL;
    if (!found && need)
        pfx_doc_wrong(doc, name, "is missing");
    return found;
}

bool pfx_doc_has(const cJSON *obj, const char *name)
{
    for (const cJSON *item = obj ? obj->child : NULL; item; item = item->next)
        if (item->string && strcmp(item->string, name) == 0 && !cJSON_IsNull(item))
            return true;
    return false;
}

const char *pfx_doc_str(struct pfx_doc *doc, const cJSON *obj, const char *name, bool need)
{
    const cJSON *item = member(doc, obj, name, need);
    if (item && !cJSON_IsString(item)) {
        pfx_doc_wrong(doc, name, "isn't a text");
        return NULL;
    }
    return item ? item->valuestring : NULL;
}

int64_t pfx_doc_int(struct pfx_doc *doc, const cJSON *obj, const char *name, bool need)
{
    const cJSON *item = member(doc, obj, name, need);
    if (!item)
        return 0;
    /* A double holds every whole number up to 2^53; at 2^52 no neighbour rounds into the range. */
    double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(value >= 0) || value > (double)((int64_t)1 << 52) || floor(value) < value) {
        pfx_doc_wrong(doc, name, "isn't a whole number in range");
        return 0;
    }
    return (int64_t)value;
}

bool pfx_doc_bool(struct pfx_doc *doc, const cJSON *obj, const char *name, bool need)
{
    const cJSON *item = member(doc, obj, name, need);
    if (item && !cJSON_IsBool(item))
        pfx_doc_wrong(doc, name, "isn't true or false");
    return item && cJSON_IsTrue(item);
}

const cJSON *pfx_doc_obj(struct pfx_doc *doc, const cJSON *obj, const char *name, bool need)
{
    const cJSON *item = member(doc, obj, name, need);
    if (item && !cJSON_IsObject(item) && !(cJSON_IsArray(item) && !item->child)) {
        pfx_doc_wrong(doc, name, "isn't an object");
        return NULL;
    }
    return item;
}

const cJSON *pfx_doc_array(struct pfx_doc *doc, const cJSON *obj, const char *name, bool need)
{
    const cJSON *item = member(doc, obj, name, need);
    if (item && !cJSON_IsArray(item) && !(cJSON_IsObject(item) && !item->child)) {
        pfx_doc_wrong(doc, name, "isn't a list");
        return NULL;
    }
    return item;
}

const cJSON *pfx_doc_root(struct pfx_doc *doc)
{
    const cJSON *root = doc->root;
    if (cJSON_IsObject(root) || (cJSON_IsArray(root) && !root->child))
        return root;
    pfx_doc_wrong(doc, "the answer", "isn't an object");
    return NULL;
}

void pfx_doc_put(struct pfx_buf *out, const char *s)
{
    pfx_buf_add(out, "\"", 1);
    for (const char *run = s;; s++) {
        unsigned char c = (unsigned char)*s;
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        pfx_buf_add(out, run, (size_t)(s - run));
        run = s + 1;
        if (c == '\0')
            break;
        if (c == '"' || c == '\\')
            pfx_buf_addf(out, "\\%c", c);
        else
            pfx_buf_addf(out, "\\u%04x", c);
    }
    pfx_buf_add(out, "\"", 1);
}

void pfx_doc_put_name(struct pfx_buf *out, const char *name)
{
    if (out->len > 0 && out->data[out->len - 1] != '{')
        pfx_buf_add(out, ",", 1);
    pfx_doc_put(out, name);
    pfx_buf_add(out, ":", 1);
}

void pfx_doc_put_member(struct pfx_buf *out, const char *name, const char *value)
{
    pfx_doc_put_name(out, name);
    pfx_doc_put(out, value);
}
