/* SPDX-License-Identifier: Apache-2.0 */
/* What a session says of itself: host, times, mode, the command and the options it was recorded
 * with, and labels. Written once, before anything is recorded, by recordings and by what is no
 * recording: one snapshot, a core file. Start: tt_rows_meta. */
#include <gnu/libc-version.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/text.h"
#include "record/internal.h"

static void add_json_string(struct tt_text *text, const char *s)
{
    tt_text_add(text, "\"");
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            tt_text_add(text, "\\%c", c);
        else if (c < ' ' || c == 0x7f)
            tt_text_add(text, "\\u%04x", c);
        else
            tt_text_add_bytes(text, s, 1);
    }
    tt_text_add(text, "\"");
}

static void add_json_word(struct tt_text *text, const char *word)
{
    tt_text_add(text, text->len ? ", " : "[");
    add_json_string(text, word);
}

/* Ends the list of words. */
static void put_words(struct tt_session_writer *w, const char *key, struct tt_text *text)
{
    tt_text_add(text, text->len ? "]" : "[]");
    tt_session_put_meta(w, key, text->failed ? "[]" : text->data);
    tt_text_free(text);
}

static void put_command(struct tt_session_writer *w, char *const *argv)
{
    struct tt_text text = {0};
    for (size_t i = 0; argv[i]; i++)
        add_json_word(&text, argv[i]);
    put_words(w, "command", &text);
}

/* What the other rows do not tell of how this was recorded. */
static void put_options(struct tt_session_writer *w, const struct tt_record_options *o)
{
    struct tt_text text = {0};
    for (size_t i = 0; i < o->n_noted; i++)
        add_json_word(&text, o->noted[i]);
    for (size_t i = 0; i < o->n_handles; i++) {
        struct tt_text handle = {0};
        tt_text_add(&handle, "%s=%s", o->handles[i].name,
                    o->handles[i].parts ? o->handles[i].parts : "");
        add_json_word(&text, "--handle");
        add_json_word(&text, handle.failed ? o->handles[i].name : handle.data);
        tt_text_free(&handle);
    }
    put_words(w, "options", &text);
}

int tt_rows_meta(struct tt_session_writer *w, const struct tt_record_options *o, pid_t pid,
                 uint64_t started_ns, uint64_t started_wall)
{
    static const char *const modes[] = {"exact", "exact", "sampled", "adaptive"};
    struct utsname host = {0};
    uname(&host);
    tt_session_begin(w);
    tt_session_put_meta(w, "tool_version", o->tool_version);
    tt_session_put_meta(w, "host", host.nodename);
    tt_session_put_metaf(w, "kernel", "%.60s %.100s", host.sysname, host.release);
    tt_session_put_meta(w, "machine", host.machine);
    tt_session_put_metaf(w, "libc", "glibc %s", gnu_get_libc_version());
    if (o->argv)
        put_command(w, o->argv);
    else
        tt_session_put_meta(w, "command", ""); /* attached */
    put_options(w, o);
    tt_session_put_meta(w, "mode", modes[o->mode <= TT_MODE_ADAPTIVE ? o->mode : 0]);
    tt_session_put_metaf(w, "pid", "%d", (int)pid);
    tt_session_put_metaf(w, "follow", "%d", o->follow);
    if (o->no_inject)
        tt_session_put_meta(w, "no_inject", "1");
    tt_session_put_metaf(w, "started_wall", "%llu", (unsigned long long)started_wall);
    tt_session_put_metaf(w, "started_ns", "%llu", (unsigned long long)started_ns);
    tt_session_put_metaf(w, "ended_ns", "%llu", (unsigned long long)started_ns);
    tt_session_put_metaf(w, "origin_ns", "%llu", (unsigned long long)started_ns);
    tt_session_put_metaf(w, "ticks_per_second", "%u", TT_TAPE_TICKS_PER_SECOND);
    if (o->horizon > 0)
        tt_session_put_metaf(w, "horizon_s", "%.17g", o->horizon);
    tt_session_put_meta(w, "finished", "0");
    for (size_t i = 0; i < o->n_labels; i++)
        tt_session_put_label(w, o->labels[i].key, o->labels[i].value);
    return tt_session_commit(w);
}

int tt_rows_start(struct tt_recorder *rec, pid_t pid)
{
    return tt_rows_meta(rec->writer, rec->options, pid, rec->origin_ns, rec->started_wall);
}
