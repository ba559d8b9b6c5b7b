/* SPDX-License-Identifier: Apache-2.0 */
/* How numbers and things are worded. Start: tt_phrase_number. */
#include "report/phrase.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "resource/resource.h"

/* The ending of the plural of a word of `len` letters, and how many of them it replaces. */
static const char *plural_ending(const char *word, size_t len, size_t *cut)
{
    char last = len ? word[len - 1] : ' ', before = len > 1 ? word[len - 2] : ' ';
    *cut = last == 'y' && !strchr("aeiou", before);
    if (*cut)
        return "ies";
    return last == 's' || last == 'x' || (last == 'h' && strchr("cs", before)) ? "es" : "s";
}

/* A kind that the user declared is its own word; of "port grant in rpcssd" the plural is that of
 * what stands before the preposition. */
const char *tt_phrase_word(const char *resource, bool plural)
{
    static _Thread_local char many[128];
    const struct tt_resource *kind = tt_resource_named(resource);
    if (kind)
        return plural ? kind->many : kind->one;
    if (!resource || !*resource)
        return plural ? "units" : "unit";
    if (strcmp(resource, "heap") == 0)
        return plural ? "blocks" : "block";
    if (!plural)
        return resource;
    static const char *const prepositions[] = {" in ", " of ", " at ", " for ", " on "};
    size_t head = strlen(resource), cut;
    for (size_t i = 0; i < sizeof prepositions / sizeof *prepositions; i++) {
        const char *at = strstr(resource, prepositions[i]);
        if (at && at > resource && (size_t)(at - resource) < head)
            head = (size_t)(at - resource);
    }
    const char *ending = plural_ending(resource, head, &cut);
    snprintf(many, sizeof many, "%.*s%s%s", (int)(head - cut), resource, ending, resource + head);
    return many;
}

const char *tt_phrase_lost(const char *resource)
{
    const struct tt_resource *kind = tt_resource_named(resource);
    return kind ? kind->lost : "not released";
}

bool tt_phrase_sized(const char *resource)
{
    const struct tt_resource *kind = tt_resource_named(resource);
    return kind ? kind->sized : resource && strcmp(resource, "heap") == 0;
}

const char *tt_phrase_text(const char *s)
{
    return s ? s : "";
}

const char *tt_phrase_base(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    return slash && slash[1] ? slash + 1 : tt_phrase_text(path);
}

char *tt_phrase_number(tt_phrase buf, double x)
{
    double size = fabs(x);
    if (!isfinite(x)) {
        snprintf(buf, sizeof(tt_phrase), "an unknown number");
    } else if (size < 1e15 && (size >= 1000 || size == floor(size))) {
        char digits[32];
        uint64_t n = (uint64_t)llround(size);
        snprintf(buf, sizeof(tt_phrase), "%s%s", x < 0 && n ? "-" : "", tt_text_count(digits, n));
    } else if (size >= 1e15 || size < 1e-4) {
        snprintf(buf, sizeof(tt_phrase), "%.1e", x);
    } else {
        snprintf(buf, sizeof(tt_phrase), "%.3g", x);
    }
    return buf;
}

char *tt_phrase_size(tt_phrase buf, double bytes)
{
    char size[32];
    if (!isfinite(bytes) || bytes < 0 || bytes > 1e18)
        snprintf(buf, sizeof(tt_phrase), "an unknown size");
    else
        snprintf(buf, sizeof(tt_phrase), "%s", tt_text_size(size, bytes == 0 ? 0 : bytes));
    return buf;
}

char *tt_phrase_sizes(tt_phrase buf, const struct tt_finding *f)
{
    tt_phrase lo, hi;
    buf[0] = '\0';
    if (!tt_phrase_sized(f->resource) || f->size_min > f->size_max || !f->size_max)
        return buf;
    tt_phrase_size(hi, f->size_max);
    if (f->size_min == f->size_max)
        snprintf(buf, sizeof(tt_phrase), "%s", hi);
    else if (f->size_max < 1024)
        snprintf(buf, sizeof(tt_phrase), "%u to %.40s", f->size_min, hi);
    else
        snprintf(buf, sizeof(tt_phrase), "%.40s to %.40s", tt_phrase_size(lo, f->size_min), hi);
    return buf;
}

char *tt_phrase_units(tt_phrase buf, const char *resource, double n)
{
    tt_phrase number;
    snprintf(buf, sizeof(tt_phrase), "%.40s %s", tt_phrase_number(number, n),
             tt_phrase_word(resource, n != 1));
    return buf;
}

char *tt_phrase_interval(tt_phrase buf, const char *level, double lo, double hi)
{
    tt_phrase a, b;
    buf[0] = '\0';
    if (isfinite(lo) && isfinite(hi) &&
        strcmp(tt_phrase_number(a, lo), tt_phrase_number(b, hi)) != 0)
        snprintf(buf, sizeof(tt_phrase), " (%s: %.30s to %.30s)", level, a, b);
    return buf;
}

char *tt_phrase_percent(tt_phrase buf, double share)
{
    buf[0] = '\0';
    if (!(share >= 0 && share <= 1))
        return buf;
    double percent = share * 100;
    if (percent == floor(percent))
        snprintf(buf, sizeof(tt_phrase), "%.0f %%", percent);
    else if (percent < 0.1)
        snprintf(buf, sizeof(tt_phrase), "under 0.1 %%");
    else if (percent > 99.9)
        snprintf(buf, sizeof(tt_phrase), "over 99.9 %%");
    else
        snprintf(buf, sizeof(tt_phrase), "%.1f %%", floor(percent * 10) / 10);
    return buf;
}

char *tt_phrase_evalue(tt_phrase buf, double log_e)
{
    buf[0] = '\0';
    if (!isfinite(log_e))
        return buf;
    double exponent = floor(log_e / M_LN10);
    if (exponent > 99)
        snprintf(buf, sizeof(tt_phrase), "e-value above 1e99");
    else if (exponent >= 4)
        snprintf(buf, sizeof(tt_phrase), "e-value %.0fe%.0f",
                 floor(exp(log_e - exponent * M_LN10) + 1e-9), exponent);
    else
        snprintf(buf, sizeof(tt_phrase), "e-value %.2g", exp(log_e));
    return buf;
}

static bool broken_down(double utc, struct tm *tm)
{
    if (!(utc > 0 && utc < 253402300800.0)) /* until the year 9999 */
        return false;
    time_t t = (time_t)utc;
    return gmtime_r(&t, tm) != NULL;
}

char *tt_phrase_date(tt_phrase buf, int64_t utc)
{
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct tm tm;
    buf[0] = '\0';
    if (broken_down((double)utc, &tm))
        snprintf(buf, sizeof(tt_phrase), "%02d-%s-%d %02d:%02d UTC", tm.tm_mday, months[tm.tm_mon],
                 tm.tm_year + 1900, tm.tm_hour, tm.tm_min);
    return buf;
}

char *tt_phrase_iso(tt_phrase buf, double utc)
{
    struct tm tm;
    buf[0] = '\0';
    if (broken_down(utc, &tm))
        strftime(buf, sizeof(tt_phrase), "%Y-%m-%dT%H:%M:%SZ", &tm);
    return buf;
}

void tt_phrase_operation(struct tt_text *out, const struct tt_rate *rate, bool plural)
{
    const char *name = rate->operation;
    size_t len = strlen(name);
    static const char births[] = "allocation";
    if (strncmp(tt_phrase_text(rate->operation_source), "site", 4) == 0 &&
        strncmp(name, births, sizeof births - 1) == 0) {
        tt_text_add(out, "%s%s%s", births, plural ? "s" : "", name + sizeof births - 1);
        return;
    }
    if (len > 2 && name[len - 1] == ')') {
        tt_text_add(out, "%s of " TT_CODE_ON "%s" TT_CODE_OFF, plural ? "calls" : "call", name);
        return;
    }
    size_t cut = 0;
    const char *ending = plural ? plural_ending(name, len, &cut) : "";
    tt_text_add(out, "%.*s%s", (int)(len - cut), name, ending);
}

char *tt_phrase_sentence(char buf[TT_PHRASE_SENTENCE], const char *text)
{
    size_t len = strlen(text);
    snprintf(buf, TT_PHRASE_SENTENCE, "%.300s%s", text, len && text[len - 1] == '.' ? "" : ".");
    /* "owners=1: ..." begins with a label, which keeps its spelling. */
    if (buf[0] >= 'a' && buf[0] <= 'z' && text[strcspn(text, " =")] != '=')
        buf[0] = (char)(buf[0] - 'a' + 'A');
    return buf;
}

const char *tt_phrase_about(const struct tt_finding *finding, bool first)
{
    return finding->estimate_sd > 0 ? first ? "About " : "about " : "";
}

bool tt_phrase_known(double x)
{
    return isfinite(x) && x > 0;
}

double tt_phrase_step(const struct tt_finding *f)
{
    double n = f->rate.per_operation;
    for (double k = 1; f->rate.exact && k <= 24; k++)
        if (n * k > 0.5 && fabs(n * k - round(n * k)) < 1e-6)
            return k;
    return 1;
}

void tt_phrase_operations(struct tt_text *out, const struct tt_finding *f, double step)
{
    tt_phrase number;
    if (step != 1)
        tt_text_add(out, "%s ", tt_phrase_number(number, step));
    tt_phrase_operation(out, &f->rate, step != 1);
}
