#include "agent/audit/match.h"

#include <inttypes.h>
#include <string.h>

#include "agent/audit/sorter.h"

/* Kinds: the even ones are what the odd ones need before them. */
/* Bytes only, so that memcmp orders it: what joins, then the place, then what it is. */
struct item {
    uint8_t table; /* keys, or PFX */
    uint8_t key[32];
    uint8_t log[4], seq[8];
    uint8_t kind;
    uint8_t payload[PFX_MATCH_PAYLOAD];
};
/* A key is made once, and at most a few times more after a crash. */
#define PARTNERS_MOST 64

struct pfx_match {
    struct pfx_sorter *sorter;
};
struct group {
    struct item partners[PARTNERS_MOST], *waiting;
    size_t n_partners, n_waiting, room;
    uint64_t unmatched, gone_unmatched, rewrap_unmatched;
    /* Of the key and the log that are read now: what was seen of it so far. */
    uint8_t log[4];
    bool packed, destroyed;
};

struct pfx_match *pfx_match_new(void)
{
    struct pfx_match *match = pfx_alloc(sizeof(*match));
    match->sorter = pfx_sorter_new(sizeof(struct item), 0);
    return match;
}

void pfx_match_free(struct pfx_match *match)
{
    if (!match)
        return;
    pfx_sorter_free(match->sorter);
    free(match);
}

static void put_number(uint8_t *at, size_t n, uint64_t value)
{
    for (size_t i = n; i-- > 0; value >>= 8)
        at[i] = (uint8_t)value;
}

static uint64_t get_number(const uint8_t *at, size_t n)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++)
        value = value << 8 | at[i];
    return value;
}

pfx_result pfx_match_add(struct pfx_match *match, enum pfx_match_kind kind, const uint8_t key[32],
                         uint32_t log, uint64_t seq, const uint8_t payload[PFX_MATCH_PAYLOAD],
                         struct pfx_error *err)
{
    bool of_key = kind >= PFX_MATCH_DESTROYED;
    struct item item = {.table = of_key ? 0 : (uint8_t)(kind / 2), .kind = (uint8_t)kind};
    memcpy(item.key, key, sizeof(item.key));
    put_number(item.log, sizeof(item.log), log);
    put_number(item.seq, sizeof(item.seq), seq);
    if (payload)
        memcpy(item.payload, payload, sizeof(item.payload));
    return pfx_sorter_add(match->sorter, &item, err);
}

static bool is_before(const struct item *partner, const struct item *item)
{
    /* Two hosts write at the same time: only within one log is there an order that is proven. */
    return memcmp(partner->log, item->log, sizeof(item->log)) != 0 ||
           memcmp(partner->seq, item->seq, sizeof(item->seq)) < 0;
}

static void found(const struct item *item, struct pfx_report *report, const char *text)
{
    pfx_report_add(report, PFX_LEVEL_FINDING, PFX_FOUND_MEANING,
                   (uint32_t)get_number(item->log, sizeof(item->log)),
                   get_number(item->seq, sizeof(item->seq)), "%s", text);
}

static bool is_destroyed(const struct item *item)
{
    return item->kind == PFX_MATCH_DESTROYED || item->kind == PFX_MATCH_DISCARDED;
}

static void tell(const struct item *item, bool whole, bool other, struct pfx_report *report,
                 uint64_t *unmatched)
{
    if (!whole) {
        ++*unmatched;
        return;
    }
    const char *text = "upload.confirmed names a PFX that no pfx.build released before";
    if (item->kind == PFX_MATCH_PACKED)
        text = other ? "pfx.build took a ticket or a key id that isn't the one that this log's "
                       "key.make gave for that key"
                     : "pfx.build packed a key that no key.make of this log made before";
    else if (item->kind == PFX_MATCH_REWRAPPED)
        text = other ? "key.rewrap names a key id that isn't the one that this log's key.make gave "
                       "for that key"
                     : "key.rewrap names a key that no key.make of this log made before";
    else if (is_destroyed(item))
        text = other ? "user_key.destroy took a ticket or a key id that isn't the one that this "
                       "log's key.make gave for that key"
                     : "user_key.destroy names a key that no key.make of this log made before";
    found(item, report, text);
}

/* The order of builds and of the destruction of one key: within a log it is proven. */
static void take_order(struct group *group, const struct item *item, struct pfx_report *report)
{
    if (memcmp(group->log, item->log, sizeof(item->log)) != 0) {
        memcpy(group->log, item->log, sizeof(item->log));
        group->packed = group->destroyed = false;
    }
    if (item->kind == PFX_MATCH_PACKED && group->destroyed)
        found(item, report, "pfx.build packed a key after user_key.destroy had destroyed it");
    if (item->kind == PFX_MATCH_DISCARDED && group->packed)
        found(item, report,
              "user_key.destroy destroyed a key as one that was never used, and pfx.build had "
              "packed it before: such a key is kept");
    group->packed = group->packed || item->kind == PFX_MATCH_PACKED;
    group->destroyed = group->destroyed || is_destroyed(item);
}

static void settle_group(struct group *group, bool whole, struct pfx_report *report)
{
    for (size_t i = 0; i < group->n_waiting; i++) {
        const struct item *item = &group->waiting[i];
        bool other = false, matched = false;
        size_t from = item->kind == PFX_MATCH_REWRAPPED ? PFX_MATCH_TICKET : 0;
        for (size_t j = 0; !matched && j < group->n_partners; j++) {
            if (!is_before(&group->partners[j], item))
                continue;
            other = true;
            matched = memcmp(group->partners[j].payload + from, item->payload + from,
                             PFX_MATCH_PAYLOAD - from) == 0;
        }
        if (!matched)
            tell(item, whole, other, report,
                 item->kind == PFX_MATCH_REWRAPPED ? &group->rewrap_unmatched
                 : is_destroyed(item)              ? &group->gone_unmatched
                                                   : &group->unmatched);
    }
    group->n_partners = 0;
    group->n_waiting = 0;
}

static void take_item(struct group *group, const struct item *item)
{
    if (item->kind % 2 == 0) {
        if (group->n_partners < PARTNERS_MOST)
            group->partners[group->n_partners++] = *item;
        return;
    }
    if (group->n_waiting == group->room) {
        group->room = group->room ? group->room * 2 : 64;
        group->waiting = pfx_grow(group->waiting, group->room, sizeof(*group->waiting));
    }
    group->waiting[group->n_waiting++] = *item;
}

/* Of one key; a log that packs the same key again and again must not grow without end. */
#define WAITING_MOST 65536

pfx_result pfx_match_finish(struct pfx_match *match, bool whole, struct pfx_report *report,
                            struct pfx_error *err)
{
    PFX_TRY(pfx_sorter_finish(match->sorter, err));
    struct group group = {0};
    uint64_t unmatched[2] = {0};
    struct item last = {0};
    pfx_result r;
    for (;;) {
        const void *record;
        r = pfx_sorter_next(match->sorter, &record, err);
        if (pfx_failed(r))
            break;
        const struct item *item = record;
        bool same = item && memcmp(&last, item, offsetof(struct item, log)) == 0;
        if (!same || group.n_waiting == WAITING_MOST) {
            group.unmatched = 0;
            size_t partners = group.n_partners;
            settle_group(&group, whole, report);
            unmatched[last.table] += group.unmatched;
            if (same)
                group.n_partners = partners;
        }
        if (!item)
            break;
        if (!same)
            group.packed = group.destroyed = false;
        last = *item;
        take_order(&group, item, report);
        take_item(&group, item);
    }
    free(group.waiting);
    PFX_TRY(r);
    if (unmatched[0])
        pfx_report_open(report, PFX_NO_LOG,
                        "%" PRIu64 " PFX were packed from keys that were made before what is "
                        "presented here",
                        unmatched[0]);
    if (group.gone_unmatched)
        pfx_report_open(report, PFX_NO_LOG,
                        "%" PRIu64 " user keys were destroyed that were made before what is "
                        "presented here",
                        group.gone_unmatched);
    if (group.rewrap_unmatched)
        pfx_report_open(report, PFX_NO_LOG,
                        "%" PRIu64 " user keys were wrapped anew that were made before what is "
                        "presented here",
                        group.rewrap_unmatched);
    if (unmatched[1])
        pfx_report_open(report, PFX_NO_LOG,
                        "%" PRIu64 " uploads name a PFX that was released before what is "
                        "presented here",
                        unmatched[1]);
    return PFX_OK;
}
