/* SPDX-License-Identifier: Apache-2.0 */
/* Handles that the user declares. The grammar, of one argument or one line of a file:
 *
 *   NAME=PART,PART,...     PART: [+|-]FUNCTION:WHERE[:OK][:nothrow]  or  limit=NUMBER
 *
 * WHERE is where the handle's value stands: "ret" what the function returns, "argN" its N-th
 * argument from 1 to 6, "*argN" what that argument points to. A function whose value is returned or
 * written through a pointer acquires, one whose value is an argument releases; '+' and '-' before
 * the name say otherwise. Of values the lower four bytes are compared, since of an int in a
 * register no more are defined (System V ABI for x86-64, 3.2.3), and live pointers hardly ever
 * agree in them; "/8" behind WHERE compares all eight. OK is which results of the call mean
 * success: "ok=0" zero, "ok=nonneg" not negative, "ok=nonnull", "ok=any". Without it a returned
 * handle counts unless it is 0 or -1, one written through a pointer when the call returns 0, a
 * release always. MODULE!FUNCTION takes the function of one module. Start: tt_handle_parse. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "resource/resource.h"

#define FILE_MOST (1u << 20)

static int misuse(struct tt_error *err, const char *part, const char *what)
{
    return tt_error_set(
        err, -EINVAL,
        "handle part \"%.120s\": %s; a handle is NAME=FUNCTION:WHERE,... with WHERE "
        "one of ret, argN, *argN (port=port_acquire:ret,port_release:arg1)",
        part, what);
}

static bool take_word(const char *text, const char *word)
{
    return strcmp(text, word) == 0;
}

/* "" or "/4", "/8". */
static bool read_width(const char *text, struct tt_handle_function *f)
{
    bool wide = take_word(text, "/8");
    f->width = wide ? 8 : 4;
    f->flags = wide ? TT_WATCH_WIDE : 0;
    return wide || !*text || take_word(text, "/4");
}

/* "ret", "arg1", "*arg2", "*arg2/8". */
static bool read_where(const char *text, struct tt_handle_function *f)
{
    if (strncmp(text, "ret", 3) == 0) {
        f->from = TT_FROM_RETURN;
        return read_width(text + 3, f);
    }
    bool through = *text == '*';
    text += through;
    if (strncmp(text, "arg", 3) != 0 || text[3] < '1' || text[3] > '6')
        return false;
    f->from = (uint8_t)((through ? TT_FROM_AT_ARG0 : TT_FROM_ARG0) + (text[3] - '1'));
    text += 4;
    return read_width(text, f);
}

static bool read_ok(const char *text, uint8_t *valid)
{
    static const struct {
        const char *word;
        uint8_t valid;
    } words[] = {{"ok=0", TT_VALID_ZERO},
                 {"ok=nonneg", TT_VALID_NOT_NEGATIVE},
                 {"ok=nonnull", TT_VALID_NOT_NULL},
                 {"ok=any", TT_VALID_ALWAYS}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (take_word(text, words[i].word)) {
            *valid = words[i].valid;
            return true;
        }
    return false;
}

/* Takes the ":WORD" at the end of text off, before which at least one more ':' or a name stands. A
 * "::" is C++. NULL: there is none. */
static char *take_last(char *text)
{
    char *colon = strrchr(text, ':');
    if (!colon || colon == text || colon[-1] == ':' || !colon[1])
        return NULL;
    *colon = '\0';
    return colon + 1;
}

/* "libfoo.so!f" becomes "f@libfoo.so". */
static bool set_function(const char *text, struct tt_handle_function *f)
{
    const char *mark = strchr(text, '!');
    size_t n = strlen(text);
    if (!*text || n >= sizeof f->function || mark == text || (mark && !mark[1]))
        return false;
    if (mark)
        snprintf(f->function, sizeof f->function, "%s@%.*s", mark + 1, (int)(mark - text), text);
    else
        memcpy(f->function, text, n + 1);
    return true;
}

static int read_function(char *part, struct tt_handle *handle, struct tt_error *err)
{
    struct tt_handle_function f = {0};
    char whole[200], *word, *text = part;
    bool ok = false, where = false;
    snprintf(whole, sizeof whole, "%.199s", part);
    char sign = *text == '+' || *text == '-' ? *text++ : 0;
    while (!where && (word = take_last(text)) != NULL) {
        if (take_word(word, "nothrow"))
            f.nothrow = true;
        else if (read_ok(word, &f.valid))
            ok = true;
        else if (read_where(word, &f))
            where = true;
        else
            return misuse(err, whole, "WHERE is not understood");
    }
    if (!where)
        return misuse(err, whole, "it does not say where the value is");
    if (!set_function(text, &f))
        return misuse(err, whole, "it names no function");
    bool argument = f.from >= TT_FROM_ARG0 && f.from < TT_FROM_AT_ARG0;
    f.what = sign == '-' || (!sign && argument) ? TT_WATCH_RELEASE : TT_WATCH_ACQUIRE;
    if (!ok)
        f.valid = f.what == TT_WATCH_RELEASE  ? TT_VALID_ALWAYS
                  : f.from == TT_FROM_RETURN  ? TT_VALID_HANDLE
                  : f.from >= TT_FROM_AT_ARG0 ? TT_VALID_ZERO
                                              : TT_VALID_ALWAYS;
    return tt_vec_push(&handle->functions, f) ? tt_error_set(err, -ENOMEM, "out of memory") : 0;
}

static bool good_name(const char *name, size_t n)
{
    if (n == 0 || n >= sizeof((struct tt_handle *)0)->name)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_- .", name[i]))
            return false;
    return true;
}

static struct tt_handle *named(tt_handle_vec *handles, const char *name, size_t n)
{
    for (size_t i = 0; i < handles->len; i++)
        if (strlen(handles->data[i].name) == n && strncmp(handles->data[i].name, name, n) == 0)
            return &handles->data[i];
    struct tt_handle fresh = {0};
    memcpy(fresh.name, name, n);
    return tt_vec_push(handles, fresh) ? NULL : &handles->data[handles->len - 1];
}

/* Commas inside of parentheses and angle brackets belong to a C++ name. */
static size_t part_length(const char *text)
{
    size_t n = 0;
    for (int depth = 0; text[n]; n++) {
        if (strchr("(<", text[n]))
            depth++;
        else if (strchr(")>", text[n]) && depth)
            depth--;
        else if (text[n] == ',' && !depth)
            break;
    }
    return n;
}

static int read_parts(char *text, struct tt_handle *handle, struct tt_error *err)
{
    size_t before = handle->functions.len;
    while (*text) {
        size_t n = part_length(text);
        char *next = text[n] ? text + n + 1 : text + n, *end;
        text[n] = '\0';
        if (strncmp(text, "limit=", 6) == 0) {
            handle->limit = strtod(text + 6, &end);
            if (end == text + 6 || *end || !(handle->limit >= 1 && handle->limit < 1e12))
                return misuse(err, text, "limit needs a number");
        } else {
            int code = read_function(text, handle, err);
            if (code)
                return code;
        }
        text = next;
    }
    return handle->functions.len == before && handle->limit <= 0
               ? misuse(err, handle->name, "no function is named")
               : 0;
}

static int keep_parts(struct tt_handle *handle, const char *parts, struct tt_error *err)
{
    struct tt_text all = {0};
    tt_text_add(&all, "%s%s%s", handle->parts ? handle->parts : "", handle->parts ? "," : "",
                parts);
    if (all.failed) {
        tt_text_free(&all);
        return tt_error_set(err, -ENOMEM, "out of memory");
    }
    free(handle->parts);
    handle->parts = all.data;
    return 0;
}

int tt_handle_parse(const char *text, tt_handle_vec *out, struct tt_error *err)
{
    size_t n = strcspn(text, "=");
    if (!text[n] || !good_name(text, n))
        return misuse(err, text, "a NAME of letters, digits, '_', '-', '.' and '=' come first");
    char *copy = strdup(text + n + 1);
    struct tt_handle *handle = copy ? named(out, text, n) : NULL;
    int code = handle ? read_parts(copy, handle, err) : tt_error_set(err, -ENOMEM, "out of memory");
    free(copy);
    return code || !handle ? code : keep_parts(handle, text + n + 1, err);
}

int tt_handle_read(const char *path, tt_handle_vec *out, struct tt_error *err)
{
    char *line = NULL;
    size_t room = 0, number = 0;
    int code = 0;
    FILE *f = fopen(path, "re");
    if (!f)
        return tt_error_sys(err, -errno, "cannot read handles from %s", path);
    while (!code && getline(&line, &room, f) >= 0) {
        number++;
        line[strcspn(line, "#\r\n")] = '\0';
        char *text = line + strspn(line, " \t");
        for (size_t k = strlen(text); k && strchr(" \t", text[k - 1]); k--)
            text[k - 1] = '\0';
        if (*text && (code = tt_handle_parse(text, out, err)) != 0) {
            char why[sizeof err->text];
            snprintf(why, sizeof why, "%s", err->text);
            tt_error_set(err, code, "%s:%zu: %.400s", path, number, why);
        }
    }
    if (!code && ferror(f))
        code = tt_error_sys(err, -EIO, "cannot read handles from %s", path);
    free(line);
    fclose(f);
    return code;
}

void tt_handles_free(tt_handle_vec *handles)
{
    for (size_t i = 0; i < handles->len; i++) {
        tt_vec_free(&handles->data[i].functions);
        free(handles->data[i].parts);
    }
    tt_vec_free(handles);
}
