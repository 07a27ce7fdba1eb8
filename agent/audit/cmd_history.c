/* pfx-audit history: the timeline of a user's, key's or order's enrolments. */
#include <string.h>

#include "agent/audit/filter.h"
#include "agent/audit/timeline.h"
#include "crypto/encode.h"

#define ROW_MAX (64 * 1024)

/* What the operand may be; each of them is tried. */
struct asked {
    size_t n_users;
    char users[PFX_FILTER_USERS][65];
    char key[129];
    const char *text;
    bool as_user, as_key, as_order, as_certificate; /* what was found */
};
struct history {
    struct pfx_walk walk;
    struct pfx_timeline timeline;
    struct asked asked;
    bool json;
};

static void history_done(struct history *history)
{
    pfx_walk_close(&history->walk);
    pfx_timeline_done(&history->timeline);
}

static bool about(struct asked *asked, const struct pfx_facts *facts)
{
    bool found = false;
    for (size_t i = 0; i < asked->n_users; i++)
        if (facts->user[0] && strcmp(asked->users[i], facts->user) == 0)
            found = asked->as_user = true;
    if (asked->key[0] && pfx_filter_has_key(facts, asked->key))
        found = asked->as_key = true;
    if (pfx_filter_has_order(facts, asked->text))
        found = asked->as_order = true;
    if (asked->key[0] &&
        (strcmp(asked->key, facts->thumbprint) == 0 || strcmp(asked->key, facts->cert) == 0))
        found = asked->as_certificate = true;
    return found;
}

/* Once for the enrolments, once for their entries: a key is made before its order is known. */
static void gather(struct history *history)
{
    struct pfx_walk_item item;
    struct pfx_timeline *timeline = &history->timeline;
    enum pfx_walk_got got;
    pfx_walk_start(&history->walk, 0);
    while ((got = pfx_walk_next(&history->walk, &item)) != PFX_WALK_END)
        if (got == PFX_WALK_ENTRY && about(&history->asked, &item.facts))
            pfx_timeline_want(timeline, &item.facts);
    struct pfx_group *others = &timeline->groups[timeline->n_groups];
    *others = (struct pfx_group){.enrolment = -1};
    pfx_walk_start(&history->walk, 0);
    while ((got = pfx_walk_next(&history->walk, &item)) != PFX_WALK_END) {
        size_t group = timeline->n_groups;
        if (got != PFX_WALK_ENTRY)
            continue;
        if (pfx_timeline_group(timeline, &item.facts, &group) ||
            about(&history->asked, &item.facts))
            pfx_timeline_add(timeline, group, &item);
    }
    pfx_timeline_sort(timeline);
}

/* What one enrolment came to. */
struct outcome {
    size_t n_steps;
    const struct pfx_step *key, *order, *certificate, *build, *upload;
    bool withheld; /* that build's result never left pfx-hsm */
};

static struct outcome outcome_of(const struct pfx_timeline *timeline, size_t group)
{
    struct outcome o = {0};
    for (size_t i = 0; i < timeline->n_steps; i++) {
        const struct pfx_step *step = &timeline->steps[i];
        const struct {
            const char *event;
            const struct pfx_step **to;
        } marks[] = {{"key.make", &o.key},
                     {"order.placed", &o.order},
                     {"certificate.received", &o.certificate},
                     {"pfx.build", &o.build},
                     {"upload.confirmed", &o.upload}};
        if (step->group != group)
            continue;
        o.n_steps++;
        for (size_t m = 0; m < sizeof(marks) / sizeof(marks[0]); m++)
            if (step->outcome == PFX_OUTCOME_OK && strcmp(step->facts.event, marks[m].event) == 0)
                *marks[m].to = step;
        if (o.build && strcmp(step->facts.event, "release.withheld") == 0 &&
            step->facts.ref == (int64_t)o.build->end)
            o.withheld = true;
        else if (o.build == step)
            o.withheld = false; /* a later one */
    }
    return o;
}

static const char *took(int64_t ms, char buf[32])
{
    if (ms < 0)
        (void)snprintf(buf, 32, "-");
    else if (ms < 10000)
        (void)snprintf(buf, 32, "%lld ms", (long long)ms);
    else if (ms < 600 * 1000)
        (void)snprintf(buf, 32, "%lld s", (long long)(ms / 1000));
    else
        (void)snprintf(buf, 32, "%lld min", (long long)(ms / 60000));
    return buf;
}

static void print_step(const struct history *history, const struct pfx_step *step, bool enrolment)
{
    struct pfx_buf row PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(ROW_MAX);
    struct pfx_buf who PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(ROW_MAX);
    struct pfx_buf event PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(ROW_MAX);
    char time[PFX_TIME_SIZE], span[32], place[48];
    if (step->end != step->seq)
        (void)snprintf(place, sizeof(place), "%llu-%llu", (unsigned long long)step->seq,
                       (unsigned long long)step->end);
    else
        (void)snprintf(place, sizeof(place), "%llu", (unsigned long long)step->seq);
    pfx_facts_who(&step->facts, &who);
    pfx_text_show_str(step->facts.event, &event);
    (void)pfx_buf_addf(&row, "  %s  %-20s  %-9s  %7s  %-8s  %-11s ",
                       pfx_facts_time(step->began, time), pfx_buf_str(&event),
                       step->open ? "no result" : pfx_outcome_name(step->outcome),
                       took(step->took, span), pfx_buf_str(&who), place);
    if (!step->covered)
        (void)pfx_buf_add_str(&row, " uncovered");
    (void)pfx_buf_add_str(&row, " ");
    if (enrolment) { /* it belongs to none of those above, so whom it is about isn't clear */
        pfx_facts_user(&step->facts, history->walk.names, &row);
        (void)pfx_buf_add_str(&row, step->facts.user[0] ? " " : "");
    } else if (step->facts.attempt > 1)
        (void)pfx_buf_addf(&row, "attempt %lld ", (long long)step->facts.attempt);
    pfx_facts_what(&step->facts, enrolment, &row);
    while (row.len > 0 && row.data[row.len - 1] == ' ')
        pfx_buf_cut(&row, row.len - 1);
    pfx_text_line(pfx_buf_str(&row));
}

/* A fact of the enrolment and the entry that says it; or that none does. */
static void mark(const char *label, const struct pfx_step *step, const char *detail)
{
    struct pfx_buf line PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(ROW_MAX);
    if (step)
        (void)pfx_buf_addf(&line, "  %-18s yes, entry %llu%s%s", label,
                           (unsigned long long)step->end, *detail ? ": " : "", detail);
    else
        (void)pfx_buf_addf(&line, "  %-18s no entry says so", label);
    pfx_text_line(pfx_buf_str(&line));
}

static void print_marks(const struct outcome *o)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(ROW_MAX);
    if (o->key)
        (void)pfx_buf_addf(&text, "key %s", o->key->facts.key_id);
    mark("key made", o->key, pfx_buf_str(&text));
    pfx_buf_reset(&text);
    if (o->order && o->order->facts.order >= 0)
        (void)pfx_buf_addf(&text, "order %lld", (long long)o->order->facts.order);
    else if (o->order)
        pfx_text_show_str(o->order->facts.transaction, &text);
    mark("ordered", o->order, pfx_buf_str(&text));
    pfx_buf_reset(&text);
    if (o->certificate)
        (void)pfx_buf_addf(&text, "SHA-256 %s", o->certificate->facts.cert);
    mark("certificate", o->certificate, pfx_buf_str(&text));
    pfx_buf_reset(&text);
    if (o->build) {
        (void)pfx_buf_addf(&text, "tier %s, ", o->build->facts.tier);
        if (o->build->facts.generation >= 0)
            (void)pfx_buf_addf(&text, "sealed to generation %lld",
                               (long long)o->build->facts.generation);
    }
    if (o->withheld)
        (void)pfx_buf_add_str(&text, "; then withheld, so it never left pfx-hsm");
    mark("PFX built", o->build, pfx_buf_str(&text));
    pfx_buf_reset(&text);
    if (o->upload) {
        (void)pfx_buf_add_str(&text, "record ");
        pfx_text_show_str(o->upload->facts.name, &text);
        if (!o->build || strcmp(o->upload->facts.out, o->build->facts.out) != 0)
            (void)pfx_buf_add_str(&text, "; not the PFX above");
    }
    mark("upload confirmed", o->upload, pfx_buf_str(&text));
}

static void print_groups(const struct history *history)
{
    const struct pfx_timeline *timeline = &history->timeline;
    size_t at = 0;
    struct pfx_buf titles PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(ROW_MAX);
    (void)pfx_buf_addf(&titles, "  %-19s  %-20s  %-9s  %7s  %-8s  %-11s  WHAT", "TIME (UTC)",
                       "EVENT", "OUTCOME", "TOOK", "WHO", "ENTRIES");
    if (timeline->n_steps > 0)
        pfx_text_line(pfx_buf_str(&titles));
    for (size_t g = 0; g <= timeline->n_groups; g++) {
        const struct pfx_group *group = &timeline->groups[g];
        struct outcome o = outcome_of(timeline, g);
        struct pfx_buf user PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
        struct pfx_facts of = {.uid = -1};
        if (o.n_steps == 0)
            continue;
        memcpy(of.user, group->user, sizeof(of.user));
        pfx_facts_user(&of, history->walk.names, &user);
        if (group->enrolment >= 0)
            (void)printf("\nenrolment %lld%s%s\n", (long long)group->enrolment,
                         user.len ? " of " : "", pfx_buf_str(&user));
        else
            (void)printf("\nbeside enrolments\n");
        for (; at < timeline->n_steps && timeline->steps[at].group == g; at++)
            print_step(history, &timeline->steps[at], group->enrolment < 0);
        if (group->enrolment >= 0)
            print_marks(&o);
    }
}

static void json_step(const struct history *history, const struct pfx_step *step)
{
    const struct pfx_facts *f = &step->facts;
    struct pfx_json json = pfx_json_make("pfx-audit/step/1");
    char time[PFX_TIME_SIZE];
    pfx_json_opt(&json, "enrolment", history->timeline.groups[step->group].enrolment);
    pfx_json_opt(&json, "attempt", f->attempt);
    pfx_json_int(&json, "entry", (int64_t)step->seq);
    if (step->end != step->seq)
        pfx_json_int(&json, "result", (int64_t)step->end);
    pfx_json_bool(&json, "open", step->open);
    pfx_json_bool(&json, "covered", step->covered);
    pfx_json_str(&json, "time", pfx_time_format(step->logged, true, time));
    if (step->facts.at >= 0)
        pfx_json_str(&json, "at", pfx_time_format(step->facts.at, true, time));
    pfx_json_opt(&json, "took_ms", step->took);
    pfx_json_str(&json, "src", pfx_src_name(f->src));
    pfx_json_str(&json, "event", f->event);
    pfx_json_str(&json, "outcome", pfx_outcome_name(step->outcome));
    pfx_json_str(&json, "role", f->role);
    pfx_json_opt(&json, "uid", f->uid);
    pfx_json_opt(&json, "order", f->order);
    pfx_json_opt(&json, "generation", f->generation);
    const struct {
        const char *key, *text;
    } texts[] = {{"transaction", f->transaction},
                 {"user", f->user},
                 {"key_id", f->key_id},
                 {"key_spki", f->spki},
                 {"cert_sha256", f->cert},
                 {"thumbprint", f->thumbprint},
                 {"name", f->name},
                 {"tier", f->tier},
                 {"out_sha256", f->out},
                 {"fail_op", f->fail_op},
                 {"fail_code", f->fail_code},
                 {"rv", f->rv},
                 {"op", f->op}};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        pfx_json_str(&json, texts[i].key, texts[i].text[0] ? texts[i].text : NULL);
    pfx_json_print(&json);
}

static void json_groups(const struct history *history)
{
    const struct pfx_timeline *timeline = &history->timeline;
    size_t at = 0;
    for (size_t g = 0; g <= timeline->n_groups; g++) {
        const struct pfx_group *group = &timeline->groups[g];
        struct outcome o = outcome_of(timeline, g);
        struct pfx_name name;
        if (o.n_steps == 0)
            continue;
        if (group->enrolment >= 0) {
            struct pfx_bytes user = {(const uint8_t *)group->user, strlen(group->user)};
            bool named = user.len > 0 && history->walk.names &&
                         pfx_names_by_user(history->walk.names, user, &name);
            struct pfx_json json = pfx_json_make("pfx-audit/enrolment/1");
            pfx_json_int(&json, "enrolment", group->enrolment);
            pfx_json_str(&json, "user", user.len ? group->user : NULL);
            pfx_json_str(&json, "user_id", named ? name.id : NULL);
            pfx_json_str(&json, "upn", named ? name.upn : NULL);
            pfx_json_int(&json, "steps", (int64_t)o.n_steps);
            pfx_json_bool(&json, "key_made", o.key != NULL);
            pfx_json_bool(&json, "ordered", o.order != NULL);
            pfx_json_bool(&json, "certificate_received", o.certificate != NULL);
            pfx_json_bool(&json, "pfx_released", o.build != NULL && !o.withheld);
            pfx_json_bool(&json, "upload_confirmed", o.upload != NULL);
            pfx_json_bool(&json, "same_pfx",
                          o.upload && o.build &&
                              strcmp(o.upload->facts.out, o.build->facts.out) == 0);
            pfx_json_print(&json);
        }
        for (; at < timeline->n_steps && timeline->steps[at].group == g; at++)
            json_step(history, &timeline->steps[at]);
    }
}

static void told_as(const struct asked *asked, char *buf, size_t size)
{
    const char *words[] = {asked->as_user ? "user" : NULL, asked->as_key ? "key" : NULL,
                           asked->as_order ? "order" : NULL,
                           asked->as_certificate ? "certificate" : NULL};
    size_t used = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < 4; i++)
        if (words[i]) {
            int n = snprintf(buf + used, size - used, "%s%s", used ? " and " : "", words[i]);
            used += n > 0 ? (size_t)n : 0;
        }
}

static void finish_json(const struct history *history, const char *as)
{
    struct pfx_json json = pfx_json_make("pfx-audit/end/1");
    pfx_json_int(&json, "enrolments", (int64_t)history->timeline.n_groups);
    pfx_json_int(&json, "steps", (int64_t)history->timeline.n_steps);
    pfx_json_int(&json, "steps_left_out", (int64_t)history->timeline.n_left_out);
    pfx_json_bool(&json, "enrolments_left_out", history->timeline.groups_left_out);
    pfx_json_str(&json, "found_as", as);
    pfx_walk_json_counts(&history->walk, &json);
    pfx_json_print(&json);
}

int pfx_audit_history(const struct pfx_audit_options *options)
{
    struct history history PFX_CLEANUP(history_done) = {.json = options->format == PFX_AUDIT_JSON,
                                                        .timeline = pfx_timeline_make()};
    struct asked *asked = &history.asked;
    struct pfx_error err = PFX_ERROR_NONE;
    char as[64];
    if (pfx_failed(pfx_walk_open(options->operands[0], options->names, &history.walk, &err)))
        return pfx_audit_fail(&err);
    asked->text = options->operands[1];
    asked->n_users = pfx_filter_users(&history.walk, asked->text, asked->users);
    if (!pfx_filter_key(asked->text, asked->key))
        asked->key[0] = '\0';
    pfx_walk_head(&history.walk, "pfx-audit/history/1", options->format);
    gather(&history);
    told_as(asked, as, sizeof(as));
    const struct pfx_timeline *timeline = &history.timeline;
    if (history.json) {
        json_groups(&history);
        finish_json(&history, as);
        return timeline->n_steps > 0 ? PFX_AUDIT_OK : PFX_AUDIT_FINDING;
    }
    if (timeline->n_steps == 0)
        (void)printf("no entry names it as user, key, order or certificate%s\n",
                     history.walk.names ? ""
                                        : "; there is no name map, so a user is known by "
                                          "the hash of 64 hex digits only");
    else
        (void)printf("found as %s; %zu enrolment%s\n", as, timeline->n_groups,
                     pfx_plural(timeline->n_groups));
    print_groups(&history);
    if (timeline->n_steps > 0)
        (void)printf("\n");
    if (timeline->n_left_out > 0 || timeline->groups_left_out)
        (void)printf("left out: %llu steps%s; narrow it down with show\n",
                     (unsigned long long)timeline->n_left_out,
                     timeline->groups_left_out ? " and further enrolments" : "");
    pfx_walk_tell_gaps(&history.walk, stdout);
    if (history.walk.n_absent + history.walk.n_damaged + history.walk.n_unreadable > 0)
        (void)printf("so steps may be missing above\n");
    return timeline->n_steps > 0 ? PFX_AUDIT_OK : PFX_AUDIT_FINDING;
}
