/* The envelopes of every socket. */
#include "api/wire/tables.h"

#include <string.h>

SCHEMA(pfx_s_error, "error", 4 * KIB,
       STR("class", 1, 16, 0, "usage, refused, transient, device, integrity, internal or lost"),
       STR("op", 0, 63, 0, "what was being done"),
       STR("object", 0, 159, 0, "to what"),
       STR("code", 0, 63, 0, "CKR name, errno name, HTTP status or the service's own code"),
       STR("text", 0, 639, 0, "what is wrong and what to do next"));

SCHEMA(pfx_s_hold, "hold", 256,
       INT("job", 1, PFX_MAX_INT, 0, "a job that this arm still has"),
       INT("lease", 1, PFX_MAX_INT, 0, "its lease"));

SCHEMA(pfx_s_hello, "hello", 64 * KIB,
       STR("role", 1, 16, 0, "hsm or uploader"),
       STR("version", 1, 32, 0, "program version"),
       STR("incarnation", 36, 36, 0, "GUID drawn at the start of the process"),
       INT("pid", 1, PFX_MAX_INT, 0, "process id"),
       STRS("kinds", 32, 1, 32, 0, "job kinds that it takes"),
       INT("capacity", 1, 1024, 0, "most jobs at once"),
       STR("sandbox", 1, 199, OPT, "what holds of its sandbox"),
       OBJS("holds", 1024, &pfx_s_hold, 0, "jobs not answered or not acknowledged"));

SCHEMA(pfx_s_welcome, "welcome", 512,
       STR("version", 1, 32, 0, "program version"),
       STR("incarnation", 36, 36, 0, "GUID of this pfx-agentd process"));

SCHEMA(pfx_s_bye, "bye", 2 * KIB, STR("why", 1, 500, 0, "why the line is closed"));

SCHEMA(pfx_s_pull, "pull", 256,
       INT("max", 0, 1024, 0, "how many more jobs than it holds now"));

SCHEMA(pfx_s_job, "job", 2 * MIB,
       INT("job", 1, PFX_MAX_INT, 0, "row of the outbox"),
       INT("lease", 1, PFX_MAX_INT, 0, "this hand-out of it"),
       INT("deadline", 0, PFX_MAX_INT, 0, "ms UTC; past it without a beat the arm is taken for hung"),
       STR("kind", 1, 32, 0, "what to do"),
       BODY("body", 0, "by kind"));

SCHEMA(pfx_s_beat, "beat", 256,
       INT("job", 1, PFX_MAX_INT, 0, "still being worked on"),
       INT("lease", 1, PFX_MAX_INT, 0, "its lease"));

SCHEMA(pfx_s_done, "done", 12 * MIB,
       INT("job", 1, PFX_MAX_INT, 0, "row of the outbox"),
       INT("lease", 1, PFX_MAX_INT, 0, "the hand-out that is answered"),
       STR("class", 1, 16, 0, "ok, or the class of the failure"),
       OBJ("error", &pfx_s_error, OPT, "unless ok"),
       BODY("body", OPT, "by kind"));

SCHEMA(pfx_s_ack, "ack", 256,
       INT("job", 1, PFX_MAX_INT, 0, "answer is stored"),
       INT("lease", 1, PFX_MAX_INT, 0, "its lease"));

SCHEMA(pfx_s_req, "req", 128 * KIB,
       INT("id", 1, PFX_MAX_INT, 0, "chosen by the asker, comes back"),
       STR("verb", 1, 48, 0, "what is asked"),
       BODY("args", OPT | SECRET, "by verb"));

SCHEMA(pfx_s_item, "item", 2 * MIB,
       INT("id", 1, PFX_MAX_INT, 0, "of the request"),
       BODY("body", SECRET, "by verb"));

SCHEMA(pfx_s_end, "end", 8 * KIB,
       INT("id", 1, PFX_MAX_INT, 0, "of the request"),
       INT("exit", 0, 127, 0, "exit code for the command"),
       OBJ("error", &pfx_s_error, OPT, "unless 0 or 1"));

const struct pfx_wire_schema pfx_s_none = {"none", 256, NULL, 0};

const struct pfx_wire_pair *pfx_wire_find(const struct pfx_wire_pair *table, const char *name)
{
    for (; table->name; table++)
        if (strcmp(table->name, name) == 0)
            return table;
    return NULL;
}
