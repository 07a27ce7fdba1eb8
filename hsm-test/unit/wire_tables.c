/* Every table of the protocol: sane, and its smallest and a fuller message survive the way there
 * and back. */
#include "api_test.h"

#include "api/wire/json.h"
#include "api/wire/msg.h"
#include "api/wire/tables.h"

static struct pfx_error err;
static size_t schemas;

static void fill(struct pfx_msg *msg, bool full);

static void fill_field(struct pfx_msg *msg, const struct pfx_wire_field *field, bool full)
{
    /* Enough of everything to see it, not so much that the ceiling is hit. */
    size_t len = (size_t)(full && field->max < 600 ? field->max : field->min);
    char *text PFX_AUTOFREE = pfx_alloc(len + 1);
    memset(text, 'x', len);
    switch (field->type) {
    case PFX_W_STR:
        pfx_msg_set_str(msg, field->name, text);
        break;
    case PFX_W_INT:
        pfx_msg_set_int(msg, field->name, full ? field->max : field->min);
        break;
    case PFX_W_BOOL:
        pfx_msg_set_bool(msg, field->name, full);
        break;
    case PFX_W_BLOB:
        pfx_msg_set_blob(msg, field->name, text, len);
        break;
    case PFX_W_STRS:
        for (int i = 0; i < (full ? 2 : 0); i++)
            pfx_msg_add_str(msg, field->name, text);
        break;
    case PFX_W_BLOBS:
        for (int i = 0; i < (full ? 2 : 0); i++)
            pfx_msg_add_blob(msg, field->name, text, len);
        break;
    case PFX_W_OBJ:
        fill(pfx_msg_set_obj(msg, field->name), full);
        break;
    case PFX_W_OBJS:
        for (int i = 0; i < (full ? 2 : 0); i++)
            fill(pfx_msg_add_obj(msg, field->name), full);
        break;
    case PFX_W_BODY:
        pfx_msg_set_body_text(msg, field->name, "{\"a\":[1]}", 9);
        break;
    }
}

static void fill(struct pfx_msg *msg, bool full)
{
    const struct pfx_wire_schema *schema = pfx_msg_schema(msg);
    for (size_t i = 0; i < schema->n_fields; i++)
        if (full || !(schema->fields[i].flags & PFX_W_OPT))
            fill_field(msg, &schema->fields[i], full);
}

static bool has_body(const struct pfx_wire_schema *schema)
{
    for (size_t i = 0; i < schema->n_fields; i++)
        if (schema->fields[i].type == PFX_W_BODY)
            return true;
    return false;
}

static void there_and_back(const struct pfx_wire_schema *schema, bool full)
{
    struct pfx_msg *msg PFX_AUTOMSG = pfx_msg_new(schema), *back PFX_AUTOMSG = NULL;
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(schema->ceiling);
    fill(msg, full);
    assert_ok(pfx_msg_encode(msg, false, &text, &err), &err);
    assert_ok(pfx_msg_decode(schema, pfx_buf_str(&text), text.len, &back, &err), &err);
    if (has_body(schema)) /* what was received isn't sent on */
        return;
    struct pfx_buf again PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(schema->ceiling);
    assert_ok(pfx_msg_encode(back, false, &again, &err), &err);
    assert_string_equal(pfx_buf_str(&text), pfx_buf_str(&again));
}

static void check(const struct pfx_wire_schema *schema)
{
    schemas++;
    assert_true((schema->n_fields > 0) == (schema->fields != NULL));
    assert_true(schema->ceiling <= 12 * MIB);
    for (size_t i = 0; i < schema->n_fields; i++) {
        const struct pfx_wire_field *field = &schema->fields[i];
        bool array = field->type == PFX_W_STRS || field->type == PFX_W_BLOBS ||
                     field->type == PFX_W_OBJS;
        bool object = field->type == PFX_W_OBJ || field->type == PFX_W_OBJS;
        if (field->min > field->max || array != (field->items > 0) ||
            object != (field->of != NULL) || !field->help || !*field->help ||
            strcmp(field->name, "v") == 0 || strcmp(field->name, "t") == 0 ||
            field->items > PFX_JSON_VALUES / 4)
            fail_msg("%s.%s: the row is wrong", schema->name, field->name);
        if (field->type == PFX_W_INT && (field->max > PFX_MAX_INT || field->min < -PFX_MAX_INT))
            fail_msg("%s.%s: more than a double holds", schema->name, field->name);
        for (size_t j = 0; j < i; j++)
            if (strcmp(schema->fields[j].name, field->name) == 0)
                fail_msg("%s.%s: there twice", schema->name, field->name);
    }
    there_and_back(schema, false);
    there_and_back(schema, true);
}

static void envelopes(void **state)
{
    (void)state;
    static const struct pfx_wire_schema *const known[] = {
        &pfx_s_error, &pfx_s_hello, &pfx_s_hold, &pfx_s_welcome, &pfx_s_bye,
        &pfx_s_pull,  &pfx_s_job,   &pfx_s_beat, &pfx_s_done,    &pfx_s_ack,
        &pfx_s_req,   &pfx_s_item,  &pfx_s_end,
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        check(known[i]);
}

static void pairs(void **state)
{
    (void)state;
    static const struct pfx_wire_pair *const tables[] = {pfx_wire_jobs, pfx_wire_agent,
                                                         pfx_wire_admin, pfx_wire_broker};
    static const uint32_t most[][2] = {{2 * MIB, 12 * MIB}, {128 * KIB, 2 * MIB},
                                       {128 * KIB, 2 * MIB}, {128 * KIB, 2 * MIB}};
    for (size_t i = 0; i < 4; i++) {
        for (const struct pfx_wire_pair *pair = tables[i]; pair->name; pair++) {
            check(pair->request);
            /* A body has to fit into its envelope. */
            assert_true(pair->request->ceiling + 1024 < most[i][0]);
            if (pair->result) {
                check(pair->result);
                assert_true(pair->result->ceiling + 8192 < most[i][1]);
            }
            assert_ptr_equal(pfx_wire_find(tables[i], pair->name), pair);
        }
        assert_null(pfx_wire_find(tables[i], "nothing"));
    }
    assert_true(schemas > 40);
}

/* Most bytes of a message within its bounds: every character escaped, every array full. */
static size_t most_of(const struct pfx_wire_schema *schema)
{
    size_t most = 3; /* braces, comma */
    for (size_t i = 0; i < schema->n_fields; i++) {
        const struct pfx_wire_field *field = &schema->fields[i];
        size_t items = field->items > 0 ? field->items : 1;
        size_t text = 2 * (size_t)field->max + 3, blob = ((size_t)field->max + 2) / 3 * 4 + 3;
        most += strlen(field->name) + 6;
        switch (field->type) {
        case PFX_W_STR:
        case PFX_W_STRS:
            most += items * text;
            break;
        case PFX_W_BLOB:
        case PFX_W_BLOBS:
            most += items * blob;
            break;
        case PFX_W_OBJ:
        case PFX_W_OBJS:
            most += items * most_of(field->of);
            break;
        case PFX_W_INT:
        case PFX_W_BOOL:
        case PFX_W_BODY:
            most += 17;
            break;
        }
    }
    return most;
}

static size_t too_large(const struct pfx_wire_schema *schema)
{
    size_t most = schema ? most_of(schema) + 24 : 0; /* "v" and "t" of an envelope */
    if (schema && most > schema->ceiling)
        print_error("%s: %zu bytes fit its bounds, and its ceiling is %u\n", schema->name, most,
                    schema->ceiling);
    return schema && most > schema->ceiling;
}

/* What a daemon puts together from what others told it never breaks its own ceiling: a message that
 * can't be encoded ends the program. An arm's results aren't asked: they are encoded with an error
 * that becomes the job's. */
static void ceilings(void **state)
{
    (void)state;
    static const struct pfx_wire_pair *const verbs[] = {pfx_wire_agent, pfx_wire_admin,
                                                        pfx_wire_broker};
    size_t bad = too_large(&pfx_s_hello) + too_large(&pfx_s_bye) + too_large(&pfx_s_end);
    for (const struct pfx_wire_pair *job = pfx_wire_jobs; job->name; job++)
        bad += too_large(job->request);
    for (size_t i = 0; i < 3; i++)
        for (const struct pfx_wire_pair *verb = verbs[i]; verb->name; verb++)
            bad += too_large(verb->request) + too_large(verb->result);
    assert_int_equal(bad, 0);
}

static bool takes(const struct pfx_wire_schema *schema, const char *json)
{
    struct pfx_msg *msg PFX_AUTOMSG = NULL;
    err = PFX_ERROR_NONE;
    return pfx_ok(pfx_msg_decode(schema, json, strlen(json), &msg, &err));
}

#define NOTE_HEAD "\"n\":1,\"at\":1,\"event\":\"command\",\"outcome\":\"ok\",\"actor\":\"self\""
#define NOTES(members) "{\"notes\":[{" members "}]}"

/* The operation log: pfx-agentd's notes have these members and no others, and the three verbs are
 * the admin socket's alone. */
static void operation_log(void **state)
{
    (void)state;
    const struct pfx_wire_schema *job = pfx_wire_find(pfx_wire_jobs, "hsm.log")->request;
    static const char *const bad[] = {
        "{}",
        NOTES(""),
        NOTES("\"n\":0,\"at\":1,\"event\":\"command\",\"outcome\":\"ok\",\"actor\":\"self\""),
        NOTES("\"n\":1,\"event\":\"command\",\"outcome\":\"ok\",\"actor\":\"self\""),
        NOTES(NOTE_HEAD ",\"n\":2"),
        NOTES(NOTE_HEAD ",\"upn\":\"anna@example.test\""),
        NOTES(NOTE_HEAD ",\"user\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\""), /* 31 bytes */
        NOTES(NOTE_HEAD ",\"text\":\"an answer of a server\""),
        NOTES(NOTE_HEAD ",\"seq\":1"),
        NOTES(NOTE_HEAD ",\"prev\":\"00\""),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (takes(job, bad[i]))
            fail_msg("took: %s", bad[i]);
    assert_true(takes(job, NOTES(NOTE_HEAD)));
    assert_true(takes(job, NOTES(NOTE_HEAD ",\"user\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
                                           "=\",\"order_id\":77,\"name\":\"record\"")));
    struct pfx_buf many PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(MIB);
    for (size_t n = 0; n <= 200; n++)
        pfx_buf_addf(&many, "%s{" NOTE_HEAD "}", n == 0 ? "{\"notes\":[" : ",");
    size_t whole = many.len;
    pfx_buf_add_str(&many, "]}");
    assert_false(takes(job, pfx_buf_str(&many))); /* 201 */
    pfx_buf_cut(&many, whole - strlen(",{" NOTE_HEAD "}"));
    pfx_buf_add_str(&many, "]}");
    assert_true(takes(job, pfx_buf_str(&many)));

    static const char *const verbs[] = {"log.status", "log.rotate_key", "log.reopen"};
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        const struct pfx_wire_pair *pair = pfx_wire_find(pfx_wire_admin, verbs[i]);
        assert_non_null(pair);
        assert_true(takes(pair->request, "{}"));
        assert_false(takes(pair->request, "{\"origin\":\"x\"}"));
        assert_null(pfx_wire_find(pfx_wire_broker, verbs[i]));
        assert_null(pfx_wire_find(pfx_wire_agent, verbs[i]));
        assert_null(pfx_wire_find(pfx_wire_jobs, verbs[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(envelopes), cmocka_unit_test(pairs),
                                       cmocka_unit_test(ceilings), cmocka_unit_test(operation_log)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
