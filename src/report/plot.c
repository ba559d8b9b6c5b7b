/* SPDX-License-Identifier: Apache-2.0 */
/* The small plot: live units of a site over time, as one stepped line of box characters. The line
 * shows the value at the end of each column's time, so a plateau is drawn flat.
 * Start: tt_plot_add. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/article.h"
#include "report/phrase.h"

enum { COLUMNS = 56, ROWS = 6 };

/* A round number not below x: the axis ends on one that people can read. */
static double round_up(double x)
{
    double scale = pow(10, floor(log10(x)));
    static const double steps[] = {1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (steps[i] * scale >= x * (1 - 1e-12) && (scale >= 10 || fmod(steps[i] * scale, 1) == 0))
            return steps[i] * scale;
    return 10 * scale;
}

static void draw(char cell[ROWS][COLUMNS], const int row[COLUMNS])
{
    /* Letters stand for ─ │ ╭ ╮ ╰ ╯ until the lines are printed. */
    for (int c = 0; c < COLUMNS; c++) {
        int from = c ? row[c - 1] : row[0], to = row[c];
        if (from == to) {
            cell[to][c] = 'h';
            continue;
        }
        int step = to > from ? 1 : -1;
        cell[from][c] = step > 0 ? 'J' : '7';
        for (int r = from + step; r != to; r += step)
            cell[r][c] = 'v';
        cell[to][c] = step > 0 ? 'F' : 'L';
    }
}

static const char *glyph(char letter)
{
    switch (letter) {
    case 'h':
        return "─";
    case 'v':
        return "│";
    case 'F':
        return "╭";
    case '7':
        return "╮";
    case 'L':
        return "╰";
    case 'J':
        return "╯";
    default:
        return " ";
    }
}

/* The time axis: start, end, and the moment after which nothing more was acquired. */
static void add_axis(struct tt_article *article, const struct tt_finding *f, double start,
                     double end, size_t margin)
{
    char first[32] = "0 s", last[32], when[32], mark[64], line[COLUMNS + 1];
    if (start >= 0.5)
        tt_text_duration(first, start);
    tt_text_duration(last, end);
    memset(line, ' ', COLUMNS);
    line[COLUMNS] = '\0';
    memcpy(line, first, strlen(first));
    memcpy(line + COLUMNS - strlen(last), last, strlen(last));
    double quiet = end - f->quiet_seconds;
    if (f->quiet_seconds > (end - start) * 0.08 && quiet > start) {
        size_t from = strlen(first) + 2, to = COLUMNS - strlen(last) - 2;
        size_t at = (size_t)((quiet - start) / (end - start) * COLUMNS);
        size_t n = (size_t)snprintf(mark, sizeof mark, "^ none made after %s",
                                    tt_text_duration(when, quiet));
        if (at >= from && at + n <= to) {
            memcpy(line + at, mark, n);
        } else if (at < to && at + 1 >= from + n) { /* the caret last */
            memcpy(line + at + 1 - n, mark + 2, n - 2);
            line[at - 1] = ' ';
            line[at] = '^';
        }
    }
    tt_article_more(article, "%*s%s", (int)margin, "", line);
}

void tt_plot_add(struct tt_article *article, const struct tt_subject *subject)
{
    const struct tt_finding *f = subject->finding;
    double start = INFINITY, end = -INFINITY, top = 0;
    size_t points = 0;
    for (size_t i = 0; i < f->series.len; i++) {
        struct tt_point p = f->series.data[i];
        if (!isfinite(p.t) || !isfinite(p.units) || p.units < 0)
            continue;
        points++;
        start = fmin(start, p.t);
        end = fmax(end, p.t);
        top = fmax(top, p.units);
    }
    if (points < 4 || !(end > start) || !(top > 0))
        return;
    double scale = round_up(top);
    int row[COLUMNS];
    size_t next = 0;
    double value = 0;
    for (int c = 0; c < COLUMNS; c++) {
        double until = start + (end - start) * (c + 1) / COLUMNS;
        for (; next < f->series.len && !(f->series.data[next].t > until); next++)
            if (isfinite(f->series.data[next].units) && f->series.data[next].units >= 0)
                value = f->series.data[next].units;
        row[c] = (int)lround(value / scale * (ROWS - 1));
    }
    char cell[ROWS][COLUMNS];
    memset(cell, ' ', sizeof cell);
    draw(cell, row);

    tt_phrase label[3];
    tt_phrase_number(label[0], 0);
    tt_phrase_number(label[1], scale / 2);
    tt_phrase_number(label[2], scale);
    size_t margin = strlen(label[2]) > strlen(label[1]) ? strlen(label[2]) : strlen(label[1]);
    tt_article_add(article, TT_BLOCK_LINES, "live %s", tt_phrase_word(f->resource, true));
    for (int r = ROWS - 1; r >= 0; r--) {
        struct tt_text line = {0};
        const char *name = r == ROWS - 1 ? label[2] : r == 0 ? label[0] : "";
        tt_text_add(&line, "%*s %s", (int)margin, name, r == 0 ? "┼" : *name ? "┤" : "│");
        for (int c = 0; c < COLUMNS; c++)
            tt_text_add(&line, "%s", glyph(cell[r][c]));
        while (line.len && line.data[line.len - 1] == ' ')
            line.data[--line.len] = '\0';
        article->failed |= line.failed != 0;
        tt_article_more(article, "%s", tt_phrase_text(line.data));
        tt_text_free(&line);
    }
    add_axis(article, f, start, end, margin + 2);
}
