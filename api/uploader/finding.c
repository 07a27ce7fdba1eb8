#include "api/uploader/finding.h"

#include "api/uploader/text.h"

void pfx_finding_fill(struct pfx_msg *row, const char *what, const char *level, const char *text,
                      const char *next)
{
    char clean[640];
    pfx_msg_set_str(row, "what", pfx_text_clean_str(clean, 200, what));
    pfx_msg_set_str(row, "level", level);
    pfx_msg_set_str(row, "text", pfx_text_clean_str(clean, sizeof clean, text));
    if (next && next[0])
        pfx_msg_set_str(row, "next", pfx_text_clean_str(clean, sizeof clean, next));
}

struct pfx_msg *pfx_finding_add(struct pfx_msg *result, const char *what, const char *level,
                                const char *text, const char *next)
{
    struct pfx_msg *row = pfx_msg_add_obj(result, "findings");
    pfx_finding_fill(row, what, level, text, next);
    return row;
}
