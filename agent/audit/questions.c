/* What was asked, and who answered, by the nonce. */
#include "agent/audit/questions.h"

#include <string.h>

#include "crypto/encode.h"

#define QUESTIONS_MOST 4096 /* of a log; a company has a few a year */

struct question {
    char nonce[65];
    uint8_t about[32]; /* SHA-256 of the record without its answers */
    struct {
        char principal[PFX_PRINCIPAL_SIZE];
        int64_t uid;
    } given[PFX_APPROVERS_MOST];
    size_t n_given;
    bool spent;
};
struct pfx_questions {
    struct question *list;
    size_t n;
    bool over;
};

struct pfx_questions *pfx_questions_new(void)
{
    return pfx_alloc(sizeof(struct pfx_questions));
}

void pfx_questions_free(struct pfx_questions *questions)
{
    free(questions->list);
    free(questions);
}

void pfx_questions_reset(struct pfx_questions *questions)
{
    questions->n = 0;
    questions->over = false;
}

static struct question *find(struct pfx_questions *questions, const char *nonce)
{
    for (size_t i = 0; i < questions->n; i++)
        if (strcmp(questions->list[i].nonce, nonce) == 0)
            return &questions->list[i];
    return NULL;
}

/* Command, arguments, log, nonce, expiry, who asked and how many are needed. */
static void about(const struct pfx_approval *approval, uint8_t ret[32])
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(PFX_APPROVAL_RECORD_MAX);
    struct pfx_approval question = *approval;
    question.n_given = 0;
    if (!pfx_approval_write(&question, &text) || !pfx_sha256(text.data, text.len, ret))
        memset(ret, 0, 32);
}

static void tell(struct pfx_meaning *meaning, uint64_t seq, const char *text)
{
    pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq, "%s", text);
}

void pfx_question_asked(struct pfx_meaning *meaning, uint64_t seq,
                        const struct pfx_approval *approval)
{
    struct pfx_questions *questions = meaning->questions;
    if (find(questions, approval->statement.nonce)) {
        tell(meaning, seq, "this question was asked before: a nonce is new each time");
        return;
    }
    questions->over = questions->over || questions->n == QUESTIONS_MOST;
    if (questions->over)
        return;
    questions->list = pfx_grow(questions->list, questions->n + 1, sizeof(*questions->list));
    struct question *question = &questions->list[questions->n++];
    memset(question, 0, sizeof(*question));
    memcpy(question->nonce, approval->statement.nonce, sizeof(question->nonce));
    about(approval, question->about);
}

/* NULL: there is none, and that was told where one must have been examined. */
static struct question *asked(struct pfx_meaning *meaning, uint64_t seq, bool must,
                              const struct pfx_approval *approval)
{
    struct pfx_questions *questions = meaning->questions;
    struct question *question = find(questions, approval->statement.nonce);
    uint8_t now[32];
    if (!question && must && meaning->from == 0 && !questions->over)
        tell(meaning, seq, "these approvals answer a question that wasn't asked in this log");
    if (!question)
        return NULL;
    about(approval, now);
    if (memcmp(now, question->about, sizeof(now)) == 0)
        return question;
    tell(meaning, seq, "what is approved here isn't what was asked (approval.ask)");
    return NULL;
}

static bool has_given(const struct question *question, const struct pfx_given *given)
{
    for (size_t i = 0; i < question->n_given; i++)
        if (strcmp(question->given[i].principal, given->principal) == 0 &&
            question->given[i].uid == given->uid)
            return true;
    return false;
}

void pfx_question_given(struct pfx_meaning *meaning, uint64_t seq, bool before,
                        const struct pfx_approval *approval)
{
    struct question *question = asked(meaning, seq, !before, approval);
    if (!question)
        return;
    if (question->spent)
        tell(meaning, seq, "an approval of a command that was done before");
    if (question->n_given == PFX_APPROVERS_MOST)
        return;
    memcpy(question->given[question->n_given].principal, approval->given[0].principal,
           PFX_PRINCIPAL_SIZE);
    question->given[question->n_given++].uid = approval->given[0].uid;
}

void pfx_question_spent(struct pfx_meaning *meaning, uint64_t seq,
                        const struct pfx_approval *approval)
{
    struct question *question = asked(meaning, seq, true, approval);
    for (size_t i = 0; question && i < approval->n_given; i++)
        if (!has_given(question, &approval->given[i]))
            pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                             "%s is said to have approved it, and no approval.give says so",
                             approval->given[i].principal);
    if (question)
        question->spent = true;
}
