/* SPDX-License-Identifier: Apache-2.0 */
/* An article as a list of blocks, between what it says (compose.c, sections.c, cause.c, outlook.c)
 * and how a format lays it out (text.c, markdown.c). Inside the report room only. Start: struct
 * tt_article.
 */
#ifndef TT_REPORT_ARTICLE_H
#define TT_REPORT_ARTICLE_H

#include "base/vec.h"
#include "report/report.h"

enum tt_block_kind {
    TT_BLOCK_TITLE,    /* one sentence */
    TT_BLOCK_SUBTITLE, /* one line of facts */
    TT_BLOCK_HEADING,  /* a section's name in capitals */
    TT_BLOCK_PARA,     /* wrapped prose */
    TT_BLOCK_BULLET,   /* a wrapped list item */
    TT_BLOCK_LINES,    /* stacks, plots, tables, commands: kept as they are */
};

struct tt_block {
    enum tt_block_kind kind;
    bool alarm; /* a leak's title */
    struct tt_text text;
};

struct tt_article {
    TT_VEC(struct tt_block) blocks;
    bool failed; /* out of memory on the way */
};

/* Brackets around names within prose; Markdown makes code of them, text drops them. */
#define TT_CODE_ON "\001"
#define TT_CODE_OFF "\002"

/* Appends a block. Control characters and broken UTF-8, which names of a target may hold, become
 * '?', so nothing that comes from the target can steer a terminal or break out of its block. */
__attribute__((format(printf, 3, 4))) void
tt_article_add(struct tt_article *article, enum tt_block_kind kind, const char *fmt, ...);

/* Appends text to the last block: prose goes on after a space, LINES on a new line. */
__attribute__((format(printf, 2, 3))) void tt_article_more(struct tt_article *article,
                                                           const char *fmt, ...);
void tt_article_free(struct tt_article *article);

/* Columns that a UTF-8 string takes: its code points, without the code brackets. */
size_t tt_article_width(const char *text);

/* Says everything; the layout follows. */
void tt_article_compose(struct tt_article *article, const struct tt_report_input *input);

/* The parts of one finding's article. */
struct tt_subject {
    const struct tt_report_input *input;
    const struct tt_finding *finding;
    const struct tt_report_session *session;
    const struct tt_report_process *process; /* never NULL; may be empty */
};
void tt_section_title(struct tt_article *article, const struct tt_subject *subject);
void tt_section_applies_to(struct tt_article *article, const struct tt_report_session *session,
                           const struct tt_report_process *process);
void tt_section_symptoms(struct tt_article *article, const struct tt_subject *subject);
void tt_section_cause(struct tt_article *article, const struct tt_subject *subject);
void tt_section_law(struct tt_article *article, const struct tt_subject *subject);
void tt_section_forecast(struct tt_article *article, const struct tt_subject *subject);
void tt_section_workaround(struct tt_article *article, const struct tt_subject *subject);
void tt_section_status(struct tt_article *article, const struct tt_subject *subject);
void tt_section_evidence(struct tt_article *article, const struct tt_subject *subject);

/* frozen.c: what frozen copies and attaching add. */
void tt_section_before(struct tt_article *article, const struct tt_subject *subject);
/* Goes on with the status: whether anything points to the units. */
void tt_section_reached(struct tt_article *article, const struct tt_subject *subject);
void tt_section_holders(struct tt_article *article, const struct tt_holding *list, size_t n,
                        const char *lead);
/* The limits of the scan, as an item of the evidence. */
void tt_section_scan(struct tt_article *article, const struct tt_report_input *input);
/* Goes on with what was looked at; whether a copy could be searched completely. */
bool tt_section_searched(struct tt_article *article, const struct tt_report_input *input);
void tt_section_groups(struct tt_article *article, const struct tt_report_input *input);
void tt_section_cost(struct tt_article *article, const struct tt_report_input *input);
/* Whether the report has no leaking site, but lost blocks, or only one look at the heap; and the
 * article for that. */
bool tt_overview_wanted(const struct tt_report_input *input);
void tt_section_overview(struct tt_article *article, const struct tt_report_input *input,
                         const struct tt_report_process *process);

/* The finding's top frame as "function file:line" for one-line lists, with code brackets. */
void tt_cause_place(struct tt_text *out, const struct tt_subject *subject);

/* The small plot of a finding's series as a LINES block; nothing when there is too little. */
void tt_plot_add(struct tt_article *article, const struct tt_subject *subject);

/* The writers of the format table. */
int tt_report_write_text(const struct tt_report_input *input, struct tt_text *out);
int tt_report_write_markdown(const struct tt_report_input *input, struct tt_text *out);
int tt_report_write_json(const struct tt_report_input *input, struct tt_text *out);

#endif
