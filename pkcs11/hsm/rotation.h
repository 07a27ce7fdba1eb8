/*
 * Generations of the standing keys that `pfx-agent standing` changes. One file, replaced as a
 * whole, under the MAC key that it calls active itself; without it every key has generation 1
 * alone: pfx-agent standing keys v1 serial 3 key client-main 1 previous 1795000000000 key
 * client-main 2 active 1795000000000 mac <hex> The serial grows with each write and stands in the
 * log entry of the write, so an older file that is put back is noticed. A row of a key that the
 * policy doesn't name any more stays.
 */
#ifndef PFX_HSM_ROTATION_H
#define PFX_HSM_ROTATION_H

#include "crypto/overlap.h"
#include "pkcs11/hsm/task.h"

#define PFX_ROTATION_MOST 256 /* rows */
#define PFX_STEM_SIZE 48
struct pfx_rotation_row {
    char stem[PFX_STEM_SIZE];
    struct pfx_overlap at;
};
struct pfx_rotation {
    int64_t serial; /* of the last write; 0: there is none */
    size_t n;
    bool known; /* read under the MAC key since this process started */
    struct pfx_rotation_row rows[PFX_ROTATION_MOST];
};
/* The generations of this key; one that was never rotated has the first, active. */
size_t pfx_rotation_of(const struct pfx_rotation *rotation, const char *stem,
                       struct pfx_overlap ret_list[PFX_OVERLAP_MOST]);
/* Puts them back, for a key that has them all; false: no room. */
PFX_MUST_USE bool pfx_rotation_put(struct pfx_rotation *rotation, const char *stem,
                                   const struct pfx_overlap *list, size_t n);
/* The text but for its last line. */
PFX_MUST_USE bool pfx_rotation_write(const struct pfx_rotation *rotation, struct pfx_buf *out);
/* False for anything that pfx_rotation_write doesn't write, or a key without one active generation.
 */
PFX_MUST_USE bool pfx_rotation_parse(const char *text, size_t len, struct pfx_rotation *ret);

/* Every key has its first generation; nothing is known yet. */
void pfx_rotation_init(struct pfx_hsm *hsm);
/* Reads the file into hsm, whose lock is held for writing. INTEGRITY when it isn't what pfx-hsm
 * wrote, or the log knows of a later one. The session is the users token's. */
PFX_MUST_USE pfx_result pfx_rotation_load(struct pfx_hsm *hsm, struct pfx_session *users,
                                          struct pfx_error *err);
/* For roles beside the users role: TRANSIENT as long as there is a file, or was,
 * that isn't read yet. */
PFX_MUST_USE pfx_result pfx_rotation_known(const struct pfx_hsm *hsm, struct pfx_error *err);
/* Writes it, with the next serial, and takes it into hsm; lock as above. */
PFX_MUST_USE pfx_result pfx_rotation_store(struct pfx_hsm *hsm, struct pfx_session *users,
                                           struct pfx_rotation *next, struct pfx_error *err);
/* The newest generation of the MAC key below this one that was active before and isn't destroyed;
 * 0: none. UINT_MAX gives the first: what is to be read is most often the newest one's. */
unsigned pfx_mac_previous(const struct pfx_hsm *hsm, unsigned below);
/* Is this the MAC of the text, by the active MAC key or one before it? Between the activation of a
 * MAC key and the writing of a file under it the process may end. ret_earlier may be NULL. */
PFX_MUST_USE pfx_result pfx_mac_vouches(const struct pfx_hsm *hsm, struct pfx_session *users,
                                        struct pfx_key *mac, struct pfx_bytes text,
                                        struct pfx_bytes stated, bool *ret_ours, bool *ret_earlier,
                                        struct pfx_error *err);
/* A generation as an item of the standing verbs' answers. */
struct pfx_msg *pfx_standing_item(const struct pfx_hsm *hsm, struct pfx_task *task,
                                  const struct pfx_standing_key *key,
                                  const struct pfx_overlap *at, const char *text);
/* Grows whenever another wrapping key or MAC key is activated: what pfx-agentd keeps of a user key
 * and got under an earlier one is made anew by hsm.rewrap. 0: never. Lock for reading. */
int64_t pfx_rotation_epoch(const struct pfx_rotation *rotation);

#endif
