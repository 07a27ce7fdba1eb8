/* pfx-audit show: entries one by one, as a table, JSON lines or CSV. */
#include <string.h>

#include "agent/audit/filter.h"
#include "crypto/encode.h"

#define ROW_MAX (64 * 1024)

struct show {
    struct pfx_walk walk;
    struct pfx_filter filter;
    enum pfx_audit_format format;
    int number_width; /* of the table's first column */
    uint64_t n_shown;
};

static void show_done(struct show *show)
{
    pfx_walk_close(&show->walk);
}

static const struct {
    const char *title;
    int width;
} columns[] = {{"TIME (UTC)", 19}, {"EVENT", 20}, {"OUTCOME", 9}, {"WHO", 8}};

static void table_head(const struct show *show)
{
    (void)printf("%*s", show->number_width, "ENTRY");
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++)
        (void)printf("  %-*s", columns[i].width, columns[i].title);
    (void)printf("  WHAT\n");
}

/* The next cell of a row, padded to its column. */
static void cell(struct pfx_buf *row, size_t column, const char *shown)
{
    (void)pfx_buf_addf(row, "  %s", shown);
    for (size_t n = pfx_text_columns(shown); n < (size_t)columns[column].width; n++)
        (void)pfx_buf_add(row, " ", 1);
}

static void table_entry(const struct show *show, const struct pfx_walk_item *item)
{
    const struct pfx_facts *facts = &item->facts;
    struct pfx_buf row PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(ROW_MAX);
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(ROW_MAX);
    char time[PFX_TIME_SIZE];
    (void)pfx_buf_addf(&row, "%*llu", show->number_width, (unsigned long long)item->seq);
    cell(&row, 0, pfx_facts_time(facts->time, time));
    pfx_text_show_str(facts->event, &text);
    cell(&row, 1, pfx_buf_str(&text));
    pfx_buf_reset(&text);
    cell(&row, 2, facts->phase == PFX_PHASE_INTENT ? "..." : pfx_outcome_name(facts->outcome));
    pfx_facts_who(facts, &text);
    cell(&row, 3, pfx_buf_str(&text));
    (void)pfx_buf_add_str(&row, "  ");
    if (!item->covered)
        (void)pfx_buf_add_str(&row, "uncovered ");
    if (item->misplaced)
        (void)pfx_buf_add_str(&row, "MISPLACED ");
    pfx_facts_user(facts, show->walk.names, &row);
    if (facts->user[0])
        (void)pfx_buf_add_str(&row, " ");
    pfx_facts_what(facts, true, &row);
    while (row.len > 0 && row.data[row.len - 1] == ' ') /* nothing to say */
        pfx_buf_cut(&row, row.len - 1);
    pfx_text_line(pfx_buf_str(&row));
}

static void json_entry(const struct show *show, const struct pfx_walk_item *item)
{
    struct pfx_json json = pfx_json_make("pfx-audit/entry/1");
    struct pfx_name name;
    const char *user = item->facts.user;
    pfx_json_int(&json, "seq", (int64_t)item->seq);
    pfx_json_bool(&json, "covered", item->covered);
    if (item->misplaced)
        pfx_json_bool(&json, "misplaced", true);
    if (user[0] && show->walk.names &&
        pfx_names_by_user(show->walk.names, (struct pfx_bytes){(const uint8_t *)user, strlen(user)},
                          &name)) {
        pfx_json_open(&json, "name", '{');
        pfx_json_str(&json, "id", name.id);
        pfx_json_str(&json, "upn", name.upn);
        pfx_json_close(&json, '}');
    }
    pfx_json_raw(&json, "entry", item->json);
    pfx_json_print(&json);
}

static const char *const csv_titles[] = {
    "entry",      "covered", "time",        "src",     "event",    "phase", "outcome",
    "role",       "uid",     "user",        "user_id", "upn",      "name",  "enrolment",
    "attempt",    "order",   "transaction", "key_id",  "key_spki", "tier",  "generation",
    "out_sha256", "fail_op", "fail_code",   "rv",      "op",       "ref",
};

static void csv_head(void)
{
    struct pfx_buf row PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(ROW_MAX);
    for (size_t i = 0; i < sizeof(csv_titles) / sizeof(csv_titles[0]); i++)
        pfx_csv_text(&row, csv_titles[i]);
    pfx_csv_print(&row);
}

static void csv_entry(const struct show *show, const struct pfx_walk_item *item)
{
    const struct pfx_facts *facts = &item->facts;
    struct pfx_buf row PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(ROW_MAX);
    struct pfx_name name;
    char time[PFX_TIME_SIZE];
    bool named = facts->user[0] && show->walk.names &&
                 pfx_names_by_user(
                     show->walk.names,
                     (struct pfx_bytes){(const uint8_t *)facts->user, strlen(facts->user)}, &name);
    pfx_csv_int(&row, (int64_t)item->seq);
    pfx_csv_text(&row, item->covered ? "yes" : "no");
    pfx_csv_text(&row, pfx_time_format(facts->time, true, time));
    pfx_csv_text(&row, pfx_src_name(facts->src));
    pfx_csv_text(&row, facts->event);
    pfx_csv_text(&row, pfx_phase_name(facts->phase));
    pfx_csv_text(&row, pfx_outcome_name(facts->outcome));
    pfx_csv_text(&row, facts->role);
    pfx_csv_int(&row, facts->uid);
    pfx_csv_text(&row, facts->user);
    pfx_csv_text(&row, named ? name.id : "");
    pfx_csv_text(&row, named ? name.upn : "");
    pfx_csv_text(&row, facts->name);
    pfx_csv_int(&row, facts->enrolment);
    pfx_csv_int(&row, facts->attempt);
    pfx_csv_int(&row, facts->order);
    pfx_csv_text(&row, facts->transaction);
    pfx_csv_text(&row, facts->key_id);
    pfx_csv_text(&row, facts->spki);
    pfx_csv_text(&row, facts->tier);
    pfx_csv_int(&row, facts->generation);
    pfx_csv_text(&row, facts->out);
    pfx_csv_text(&row, facts->fail_op);
    pfx_csv_text(&row, facts->fail_code);
    pfx_csv_text(&row, facts->rv);
    pfx_csv_text(&row, facts->op);
    pfx_csv_int(&row, facts->ref);
    pfx_csv_print(&row);
}

/* What stands there instead of entries. A filter doesn't hide it: it might have been taken. */
static void show_gap(const struct show *show, enum pfx_walk_got got,
                     const struct pfx_walk_item *item)
{
    static const char *const words[] = {[PFX_WALK_ABSENT] = "not presented",
                                        [PFX_WALK_DAMAGED] = "damaged bundle",
                                        [PFX_WALK_UNREADABLE] = "unreadable"};
    if (item->upto <= show->filter.from_seq || item->seq > show->filter.to_seq)
        return;
    if (show->format == PFX_AUDIT_JSON) {
        struct pfx_json json = pfx_json_make("pfx-audit/gap/1");
        pfx_json_int(&json, "from", (int64_t)item->seq);
        pfx_json_int(&json, "to", (int64_t)(item->upto - 1));
        pfx_json_str(&json, "why", words[got]);
        pfx_json_str(&json, "detail", got == PFX_WALK_UNREADABLE ? item->why : NULL);
        pfx_json_print(&json);
        return;
    }
    FILE *to = show->format == PFX_AUDIT_CSV ? stderr : stdout;
    struct pfx_buf why PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    if (got == PFX_WALK_UNREADABLE)
        pfx_text_show_str(item->why, &why);
    if (item->upto - item->seq > 1)
        (void)fprintf(to, "%*llu  to %llu: %s\n", show->number_width, (unsigned long long)item->seq,
                      (unsigned long long)(item->upto - 1), words[got]);
    else
        (void)fprintf(to, "%*llu  %s%s%s\n", show->number_width, (unsigned long long)item->seq,
                      words[got], why.len ? ": " : "", pfx_buf_str(&why));
}

static void show_all(struct show *show)
{
    struct pfx_walk_item item;
    pfx_walk_start(&show->walk, show->filter.from_seq);
    for (;;) {
        enum pfx_walk_got got = pfx_walk_next(&show->walk, &item);
        if (got == PFX_WALK_END || item.seq > show->filter.to_seq)
            return;
        if (got != PFX_WALK_ENTRY) {
            show_gap(show, got, &item);
            continue;
        }
        if (!pfx_filter_takes(&show->filter, &item))
            continue;
        show->n_shown++;
        if (show->format == PFX_AUDIT_JSON)
            json_entry(show, &item);
        else if (show->format == PFX_AUDIT_CSV)
            csv_entry(show, &item);
        else
            table_entry(show, &item);
    }
}

static int width_of(uint64_t size)
{
    int width = 5; /* the title's */
    for (uint64_t n = 100000; n <= size && width < 16; n *= 10)
        width++;
    return width;
}

int pfx_audit_show(const struct pfx_audit_options *options)
{
    struct show show PFX_CLEANUP(show_done) = {.format = options->format};
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(pfx_walk_open(options->operands[0], options->names, &show.walk, &err)) ||
        pfx_failed(pfx_filter_make(options, &show.walk, &show.filter, &err)))
        return pfx_audit_fail(&err);
    show.number_width = width_of(show.walk.size);
    pfx_walk_head(&show.walk, "pfx-audit/show/1", show.format);
    if (show.format == PFX_AUDIT_TABLE)
        table_head(&show);
    else if (show.format == PFX_AUDIT_CSV)
        csv_head();
    show_all(&show);
    if (show.format == PFX_AUDIT_JSON) {
        struct pfx_json json = pfx_json_make("pfx-audit/end/1");
        pfx_json_int(&json, "shown", (int64_t)show.n_shown);
        pfx_walk_json_counts(&show.walk, &json);
        pfx_json_print(&json);
        return PFX_AUDIT_OK;
    }
    if (show.format == PFX_AUDIT_TABLE)
        (void)printf("%llu %s shown\n", (unsigned long long)show.n_shown,
                     pfx_entries(show.n_shown));
    pfx_walk_tell_gaps(&show.walk, show.format == PFX_AUDIT_CSV ? stderr : stdout);
    return PFX_AUDIT_OK;
}
