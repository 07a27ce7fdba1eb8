/* pfx-hsm whose operations aren't logged, for bench/log_cost.py to compare with: the linker puts
 * these in the place of the writer's own (--wrap). Never installed. */
#include "pkcs11/hsm/hsmlog.h"
#include "pkcs11/hsm/hsmlog_put.h"
#include "pkcs11/hsm/oplog.h"

pfx_result __wrap_pfx_oplog_append(struct pfx_oplog *log, struct pfx_draft *draft,
                                   enum pfx_room room, enum pfx_until until, uint64_t *ret_seq,
                                   struct pfx_error *err);
pfx_result __wrap_pfx_oplog_append_all(struct pfx_oplog *log, struct pfx_draft *drafts, size_t n,
                                       enum pfx_room room, enum pfx_until until, uint64_t *ret_last,
                                       struct pfx_error *err);
pfx_result __wrap_pfx_oplog_wait(struct pfx_oplog *log, uint64_t seq, enum pfx_until until,
                                 struct pfx_error *err);
pfx_result __wrap_pfx_hsmlog_agentd(struct pfx_hsm *hsm, const struct pfx_msg *job, int64_t *ret_n,
                                    struct pfx_error *err);

pfx_result __wrap_pfx_oplog_append(struct pfx_oplog *log, struct pfx_draft *draft,
                                   enum pfx_room room, enum pfx_until until, uint64_t *ret_seq,
                                   struct pfx_error *err)
{
    return __wrap_pfx_oplog_append_all(log, draft, 1, room, until, ret_seq, err);
}

pfx_result __wrap_pfx_oplog_append_all(struct pfx_oplog *log, struct pfx_draft *drafts, size_t n,
                                       enum pfx_room room, enum pfx_until until, uint64_t *ret_last,
                                       struct pfx_error *err)
{
    (void)log;
    (void)drafts;
    (void)n;
    (void)room;
    (void)until;
    (void)err;
    if (ret_last)
        *ret_last = 0;
    return PFX_OK;
}

pfx_result __wrap_pfx_oplog_wait(struct pfx_oplog *log, uint64_t seq, enum pfx_until until,
                                 struct pfx_error *err)
{
    (void)log;
    (void)seq;
    (void)until;
    (void)err;
    return PFX_OK;
}

/* pfx-agentd's notes: all are taken, and none is kept. */
pfx_result __wrap_pfx_hsmlog_agentd(struct pfx_hsm *hsm, const struct pfx_msg *job, int64_t *ret_n,
                                    struct pfx_error *err)
{
    static struct pfx_oplog_facts facts;
    static int64_t last;
    (void)err;
    pthread_mutex_lock(&hsm->log->agentd_lock);
    pfx_oplog_facts(hsm->log->writer, &facts);
    last = last > facts.agentd_n ? last : facts.agentd_n;
    for (size_t i = 0; i < pfx_msg_count(job, "notes"); i++) {
        int64_t n = pfx_msg_int(pfx_msg_obj_at(job, "notes", i), "n");
        last = n > last ? n : last;
    }
    *ret_n = last;
    pthread_mutex_unlock(&hsm->log->agentd_lock);
    return PFX_OK;
}
