/* SPDX-License-Identifier: Apache-2.0 */
/* The words of the verdicts, and the end of a list of findings. Start: tt_verdict_word. */
#include "judge/finding.h"

const char *tt_verdict_word(enum tt_verdict verdict)
{
    static const char *const words[TT_VERDICT_COUNT] = {
        [TT_VERDICT_LEAK_LOST] = "leak-lost",
        [TT_VERDICT_LEAK_RETAINED] = "leak-retained",
        [TT_VERDICT_UNDETERMINED] = "undetermined",
        [TT_VERDICT_CAPACITY] = "capacity limit",
        [TT_VERDICT_DELAYED_RELEASE] = "delayed release",
        [TT_VERDICT_BACKLOG] = "backlog",
        [TT_VERDICT_CACHE] = "cache",
        [TT_VERDICT_WARM_UP] = "warm-up",
        [TT_VERDICT_LOAD_FOLLOWING] = "load-following",
        [TT_VERDICT_FRAGMENTATION] = "fragmentation",
        [TT_VERDICT_STEADY] = "steady",
    };
    return (unsigned)verdict < TT_VERDICT_COUNT ? words[verdict] : "unknown";
}

bool tt_verdict_is_leak(enum tt_verdict verdict)
{
    return verdict == TT_VERDICT_LEAK_LOST || verdict == TT_VERDICT_LEAK_RETAINED;
}

double tt_finding_lost_bytes(const struct tt_finding *finding)
{
    return finding->lost_bytes + (finding->before.looked ? finding->before.bytes : 0);
}

void tt_finding_free(struct tt_finding *finding)
{
    tt_vec_free(&finding->evidence);
    tt_vec_free(&finding->releases);
    tt_vec_free(&finding->operation_releases);
    tt_vec_free(&finding->controls);
    tt_vec_free(&finding->holders);
    tt_vec_free(&finding->series);
    tt_vec_free(&finding->law.points);
}

void tt_findings_free(struct tt_findings *findings)
{
    for (size_t i = 0; i < findings->list.len; i++)
        tt_finding_free(&findings->list.data[i]);
    for (size_t i = 0; i < findings->strings.len; i++)
        free(findings->strings.data[i]);
    for (size_t i = 0; i < findings->snapshots.len; i++)
        tt_vec_free(&findings->snapshots.data[i].holders);
    tt_vec_free(&findings->snapshots);
    tt_vec_free(&findings->attaches);
    tt_vec_free(&findings->strings);
    tt_vec_free(&findings->list);
}
