/*
 * Checkpoints of the operation log as signed notes (C2SP signed-note, tlog-checkpoint), the key
 * lines of verifiers, and receipts (C2SP tlog-proof).
 */
#ifndef PFX_CRYPTO_CHECKPOINT_H
#define PFX_CRYPTO_CHECKPOINT_H

#include <openssl/evp.h>

#include "crypto/tree.h"

#define PFX_ORIGIN_SIZE 128     /* bytes with the NUL: host id (at most 64), "/pfx-agent", "/N" */
#define PFX_NOTE_SIGNATURES 16  /* read at most; more refuses the note */
#define PFX_CHECKPOINT_MAX 8192 /* bytes of a whole checkpoint that are read */
#define PFX_VKEY_LINE_SIZE 320  /* name + hex id + base64 of type and public key, NUL */
#define PFX_SIGNATURE_MAX 80    /* DER of a P-256 signature: at most 72 */

enum pfx_note_type { PFX_NOTE_ED25519 = 1, PFX_NOTE_P256 = 2 };

/* One who may sign. */
struct pfx_vkey {
    enum pfx_note_type type;
    char name[PFX_ORIGIN_SIZE]; /* no space, no '+' */
    uint8_t id[4];
    uint8_t spki_sha256[32]; /* of the DER SubjectPublicKeyInfo */
    EVP_PKEY *pkey;          /* owned */
};
/* From a DER SubjectPublicKeyInfo: P-256 or Ed25519, USAGE for anything else. */
PFX_MUST_USE pfx_result pfx_vkey_make(const char *name, struct pfx_bytes spki, struct pfx_vkey *ret,
                                      struct pfx_error *err);
/* From "name+id+key"; the id is computed anew and compared. REFUSED says what is wrong. */
PFX_MUST_USE pfx_result pfx_vkey_parse(const char *line, struct pfx_vkey *ret,
                                       struct pfx_error *err);
char *pfx_vkey_line(const struct pfx_vkey *key, char buf[PFX_VKEY_LINE_SIZE]); /* returns buf */
/* The DER SubjectPublicKeyInfo, appended. */
PFX_MUST_USE pfx_result pfx_vkey_spki(const struct pfx_vkey *key, struct pfx_buf *out,
                                      struct pfx_error *err);
bool pfx_vkey_equal(const struct pfx_vkey *a, const struct pfx_vkey *b);
void pfx_vkey_done(struct pfx_vkey *key); /* usable as cleanup; zeroed is fine */

struct pfx_note_signature {
    char name[PFX_ORIGIN_SIZE];
    uint8_t id[4];
    size_t at, len; /* in the checkpoint's data */
};
struct pfx_checkpoint {
    char origin[PFX_ORIGIN_SIZE];
    uint64_t size;
    struct pfx_node root;
    size_t n_signatures;
    struct pfx_note_signature signatures[PFX_NOTE_SIGNATURES];
    size_t used;
    uint8_t data[PFX_CHECKPOINT_MAX]; /* the signatures, cosignatures of any kind among them */
};
/* The three lines that are signed, LF after each. */
void pfx_checkpoint_text(const struct pfx_checkpoint *checkpoint, struct pfx_buf *out);
/* Adds a signature: DER for P-256, 64 bytes for Ed25519. False: there are too many, or this key
 * stands there already. */
bool pfx_checkpoint_add(struct pfx_checkpoint *checkpoint, const struct pfx_vkey *key,
                        struct pfx_bytes signature);
/* The whole note: text, empty line, signature lines. */
void pfx_checkpoint_write(const struct pfx_checkpoint *checkpoint, struct pfx_buf *out);
/* Strict: only what pfx_checkpoint_write could have written, with any signers. REFUSED says what is
 * wrong and in which line. */
PFX_MUST_USE pfx_result pfx_checkpoint_parse(struct pfx_bytes note, struct pfx_checkpoint *ret,
                                             struct pfx_error *err);
/* Signatures of unknown (name, id) pairs are passed over. INTEGRITY: a known key's signature is
 * bad, or no known key signed. ret_signed (may be NULL) gets a bit for each key that signed. */
PFX_MUST_USE pfx_result pfx_checkpoint_verify(const struct pfx_checkpoint *checkpoint,
                                              const struct pfx_vkey *keys, size_t n_keys,
                                              uint64_t *ret_signed, struct pfx_error *err);

/* A receipt: "c2sp.org/tlog-proof@v1", "index N", one base64 hash a line, empty line, checkpoint
 * (its bytes as they stand). */
void pfx_receipt_write(uint64_t index, const struct pfx_proof *proof, struct pfx_bytes checkpoint,
                       struct pfx_buf *out);
/* ret_checkpoint is borrowed from text. REFUSED says what is wrong. Optional extra lines of the
 * format ("extra ...") are passed over. */
PFX_MUST_USE pfx_result pfx_receipt_parse(struct pfx_bytes text, uint64_t *ret_index,
                                          struct pfx_proof *ret_proof,
                                          struct pfx_bytes *ret_checkpoint, struct pfx_error *err);

#endif
