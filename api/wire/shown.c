/* Answers for people: their texts come from tokens, servers and files, and were cut to fit. */
#include <string.h>

#include "api/wire/msg.h"
#include "crypto/encode.h"

static void mend_text(struct pfx_wire_val *val)
{
    char *text = (char *)val->data;
    if (val->secret || strlen(text) != val->len)
        return;
    pfx_utf8_mend(text);
    if (val->len > 0 && !*text) /* nothing but a torn character */
        memcpy(text, "?", 2);
    for (char *p = text; *p; p++)
        if (((unsigned char)*p < 0x20 && *p != '\n' && *p != '\t') || *p == 0x7F)
            *p = ' ';
    val->len = strlen(text);
}

static void mend(struct pfx_msg *msg)
{
    for (size_t i = 0; i < msg->schema->n_fields; i++) {
        enum pfx_wire_type type = msg->schema->fields[i].type;
        struct pfx_wire_slot *slot = &msg->slots[i];
        for (uint32_t k = 0; slot->set && k < slot->n; k++) {
            if (type == PFX_W_STR || type == PFX_W_STRS)
                mend_text(&slot->vals[k]);
            else if (type == PFX_W_OBJ || type == PFX_W_OBJS)
                mend(slot->objs[k]);
        }
    }
}

pfx_result pfx_msg_set_shown(struct pfx_msg *msg, const char *name, struct pfx_msg *body,
                             struct pfx_error *err)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(body->schema->ceiling);
    mend(body);
    pfx_result r = pfx_msg_encode(body, false, &text, err);
    if (pfx_failed(r)) {
        err->cls = PFX_CLASS_INTERNAL; /* nothing that the asker could mend */
        return (pfx_result){PFX_CLASS_INTERNAL};
    }
    pfx_msg_set_body_text(msg, name, pfx_buf_str(&text), text.len);
    return PFX_OK;
}
