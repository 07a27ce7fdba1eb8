#include "crypto/changes.h"

#include <string.h>

#define TABLE_MOST ((size_t)4 * 1024 * 1024) /* cells: 2,000 by 2,000 lines */

void pfx_changes_done(struct pfx_changes *changes)
{
    free(changes->gone);
    free(changes->fresh);
    *changes = (struct pfx_changes){NULL, NULL, 0, 0};
}

static struct pfx_bytes *split(struct pfx_bytes text, size_t *ret_n)
{
    size_t room = 1, n = 0;
    for (size_t i = 0; i < text.len; i++)
        room += text.data[i] == '\n';
    struct pfx_bytes *lines = pfx_alloc_array(room, sizeof(*lines));
    while (text.len > 0) {
        const uint8_t *lf = memchr(text.data, '\n', text.len);
        size_t len = lf ? (size_t)(lf - text.data) : text.len;
        if (len > 0)
            lines[n++] = (struct pfx_bytes){text.data, len};
        text.data += lf ? len + 1 : len;
        text.len -= lf ? len + 1 : len;
    }
    *ret_n = n;
    return lines;
}

static bool same(struct pfx_bytes a, struct pfx_bytes b)
{
    return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

/* [i][j]: lines that a from i on and b from j on have in common, in order. */
static uint16_t *common(const struct pfx_bytes *a, size_t n, const struct pfx_bytes *b, size_t m)
{
    uint16_t *table = pfx_alloc_array((n + 1) * (m + 1), sizeof(*table));
    for (size_t i = n; i-- > 0;)
        for (size_t j = m; j-- > 0;) {
            const uint16_t *at = table + i * (m + 1) + j, *below = at + m + 1;
            table[i * (m + 1) + j] = same(a[i], b[j])  ? (uint16_t)(below[1] + 1)
                                     : below[0] > at[1] ? below[0]
                                                        : at[1];
        }
    return table;
}

void pfx_changes_find(struct pfx_bytes old, struct pfx_bytes now, struct pfx_changes *ret)
{
    size_t n, m, begin = 0, i = 0, j = 0;
    struct pfx_bytes *a PFX_AUTOFREE = split(old, &n);
    struct pfx_bytes *b PFX_AUTOFREE = split(now, &m);
    while (begin < n && begin < m && same(a[begin], b[begin]))
        begin++;
    while (n > begin && m > begin && same(a[n - 1], b[m - 1]))
        n--, m--;
    n -= begin;
    m -= begin;
    *ret = (struct pfx_changes){pfx_alloc_array(n + 1, sizeof(*ret->gone)),
                                pfx_alloc_array(m + 1, sizeof(*ret->fresh)), 0, 0};
    /* So a cell is below 2^16: the shorter side has at most the root of that many lines. */
    bool fits = (n + 1) * (m + 1) <= TABLE_MOST;
    uint16_t *table PFX_AUTOFREE = fits ? common(a + begin, n, b + begin, m) : NULL;
    while (i < n || j < m) {
        if (table && i < n && j < m && same(a[begin + i], b[begin + j]))
            i++, j++;
        else if (j == m || (i < n && (!table || table[(i + 1) * (m + 1) + j] >=
                                                    table[i * (m + 1) + j + 1])))
            ret->gone[ret->n_gone++] = a[begin + i++];
        else
            ret->fresh[ret->n_fresh++] = b[begin + j++];
    }
}
