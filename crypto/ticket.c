/* Tickets, and the comparing of address sets that they and the certificate check share. */
#include "crypto/ticket.h"

#include <string.h>

struct address_set {
    char **items; /* lower case, sorted, each once */
    size_t n;
};

static void set_done(struct address_set *set)
{
    for (size_t i = 0; i < set->n; i++)
        free(set->items[i]);
    free(set->items);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* ASCII only and whatever the locale: an address outside of ASCII never gets into a request. */
static char *lowered(const char *text)
{
    char *copy = pfx_strdup(text);
    for (char *p = copy; *p; p++) {
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    }
    return copy;
}

static struct address_set set_of(const char *const *addresses, size_t n)
{
    struct address_set set = {pfx_alloc_array(n, sizeof(char *)), 0};
    for (size_t i = 0; i < n; i++)
        set.items[i] = lowered(addresses[i]);
    if (n > 1)
        qsort(set.items, n, sizeof set.items[0], compare);
    for (size_t i = 0; i < n; i++) {
        if (set.n > 0 && strcmp(set.items[set.n - 1], set.items[i]) == 0)
            free(set.items[i]);
        else
            set.items[set.n++] = set.items[i];
    }
    return set;
}

static bool add_field(struct pfx_buf *out, const void *data, size_t len)
{
    if (len > UINT32_MAX)
        return false;
    uint8_t size[4] = {(uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8),
                       (uint8_t)len};
    return pfx_buf_add(out, size, sizeof size) && pfx_buf_add(out, data, len);
}

static bool add_text(struct pfx_buf *out, const char *text)
{
    return add_field(out, text, strlen(text));
}

bool pfx_ticket_bytes(const struct pfx_ticket *ticket, struct pfx_buf *out)
{
    PFX_CLEANUP(set_done)
    struct address_set set = set_of(ticket->addresses, ticket->n_addresses);
    size_t start = out->len;
    uint8_t count[4] = {(uint8_t)(set.n >> 24), (uint8_t)(set.n >> 16), (uint8_t)(set.n >> 8),
                        (uint8_t)set.n};
    bool ok = add_text(out, "pfx-agent ticket v1") && add_text(out, ticket->user_id) &&
              add_field(out, ticket->salt, sizeof ticket->salt) &&
              add_text(out, pfx_purpose_name(ticket->purpose)) &&
              add_field(out, ticket->key_id.data, ticket->key_id.len) &&
              add_field(out, ticket->spki.data, ticket->spki.len) &&
              pfx_buf_add(out, count, sizeof count);
    for (size_t i = 0; ok && i < set.n; i++)
        ok = add_text(out, set.items[i]);
    if (!ok)
        pfx_buf_cut(out, start);
    return ok;
}

bool pfx_addresses_equal(const char *const *a, size_t n_a, const char *const *b, size_t n_b)
{
    PFX_CLEANUP(set_done) struct address_set set_a = set_of(a, n_a);
    PFX_CLEANUP(set_done) struct address_set set_b = set_of(b, n_b);
    bool equal = set_a.n == set_b.n;
    for (size_t i = 0; equal && i < set_a.n; i++)
        equal = strcmp(set_a.items[i], set_b.items[i]) == 0;
    return equal;
}
