/*
 * Prints the tables of the socket protocol as JSON: every message, every job body and every verb,
 * with the bounds of each member. The hostile_* tests make their lies from it, so that a message
 * which is added to the tables is lied about without anyone thinking of it.
 */
#include <inttypes.h>
#include <stdio.h>

#include "api/wire/messages.h"

static const char *const types[] = {
    [PFX_W_STR] = "str",   [PFX_W_INT] = "int",   [PFX_W_BOOL] = "bool",
    [PFX_W_BLOB] = "blob", [PFX_W_STRS] = "strs", [PFX_W_BLOBS] = "blobs",
    [PFX_W_OBJ] = "obj",   [PFX_W_OBJS] = "objs", [PFX_W_BODY] = "body",
};

static void print_schema(const struct pfx_wire_schema *schema)
{
    printf("{\"name\":\"%s\",\"ceiling\":%" PRIu32 ",\"fields\":[", schema->name, schema->ceiling);
    for (size_t i = 0; i < schema->n_fields; i++) {
        const struct pfx_wire_field *f = &schema->fields[i];
        printf("%s{\"name\":\"%s\",\"type\":\"%s\",\"min\":%" PRId64 ",\"max\":%" PRId64
               ",\"items\":%" PRIu32 ",\"optional\":%s,\"secret\":%s",
               i > 0 ? "," : "", f->name, types[f->type], f->min, f->max, f->items,
               f->flags & PFX_W_OPT ? "true" : "false", f->flags & PFX_W_SECRET ? "true" : "false");
        if (f->of) {
            printf(",\"of\":");
            print_schema(f->of);
        }
        printf("}");
    }
    printf("]}");
}

static void print_pairs(const char *name, const struct pfx_wire_pair *table)
{
    printf(",\n\"%s\":[", name);
    for (const struct pfx_wire_pair *pair = table; pair->name; pair++) {
        printf("%s\n{\"name\":\"%s\",\"request\":", pair == table ? "" : ",", pair->name);
        print_schema(pair->request);
        printf(",\"result\":");
        if (pair->result)
            print_schema(pair->result);
        else
            printf("null");
        printf("}");
    }
    printf("]");
}

int main(void)
{
    static const struct pfx_wire_schema *const envelopes[] = {
        &pfx_s_hello, &pfx_s_welcome, &pfx_s_bye, &pfx_s_pull, &pfx_s_job, &pfx_s_beat,
        &pfx_s_done,  &pfx_s_ack,     &pfx_s_req, &pfx_s_item, &pfx_s_end,
    };
    printf("{\"version\":%d,\n\"envelopes\":[", PFX_WIRE_VERSION);
    for (size_t i = 0; i < sizeof envelopes / sizeof *envelopes; i++) {
        printf("%s\n", i > 0 ? "," : "");
        print_schema(envelopes[i]);
    }
    printf("]");
    print_pairs("jobs", pfx_wire_jobs);
    print_pairs("agent", pfx_wire_agent);
    print_pairs("admin", pfx_wire_admin);
    print_pairs("broker", pfx_wire_broker);
    printf("}\n");
    return 0;
}
