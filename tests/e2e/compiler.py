#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""g++, which starts cc1plus, as and ld by vfork and exec: the program it makes is the same byte for byte, and a compiler
that never frees is not called a leak by the standard horizon."""
import sys

from harness import MODES, Test, run

t = Test("compiler", needs=["g++"])

SOURCE = """
#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>
template <typename T> struct Tree {
    struct Node { T value; std::unique_ptr<Node> left, right; };
    std::unique_ptr<Node> root;
    void put(T v) {
        auto *at = &root;
        while (*at) at = v < (*at)->value ? &(*at)->left : &(*at)->right;
        *at = std::make_unique<Node>(Node{v, nullptr, nullptr});
    }
    template <typename F> static void each(const std::unique_ptr<Node> &n, F f) {
        if (n) { each(n->left, f); f(n->value); each(n->right, f); }
    }
};
int main() {
    Tree<std::string> tree;
    std::map<std::string, std::vector<int>> index;
    for (int i = 0; i < 5000; i++) {
        auto key = std::to_string(i * 7919 % 10007);
        tree.put(key + " padded beyond the small string");
        index[key].push_back(i);
    }
    size_t sum = 0;
    Tree<std::string>::each(tree.root, [&](const std::string &s) { sum = sum * 31 + s[0] + s.size(); });
    try {
        std::vector<int>().at(3);
    } catch (const std::out_of_range &error) {
        std::cout << "caught\\n";
    }
    std::cout << sum << ' ' << index.size() << '\\n';
    return 5;
}
"""


def build(name, command_of):
    """Compiles, links and runs; (status of g++, object, program, its status, its output)."""
    directory = t.path(name, "tree.cpp").parent
    (directory / "tree.cpp").write_text(SOURCE)
    command = ["g++", "-O1", "-frandom-seed=1", "-save-temps=cwd", "tree.cpp", "-o", "tree"]
    status, out, err = run(command_of(command), cwd=directory)
    if status != 0 or out or err:
        return status, out, err
    ran = run(command_of([directory / "tree"], "program-"), cwd=directory)
    return (status, (directory / "tree.o").read_bytes(), (directory / "tree").read_bytes()) + ran


def main():
    wanted = build("bare", lambda command, _="": command)
    if not t.check(len(wanted) == 6 and wanted[3] == 5, "bare run", wanted[:3]):
        return t.end()
    for mode in MODES:
        sessions = []

        def under(command, prefix=""):
            sessions.append(t.path(f"{prefix}{mode}.tt"))
            return t.under(mode, sessions[-1], command, "-f")

        got = build(mode, under)
        if not t.check(len(got) == 6, f"{mode}: compiles", got):
            continue
        t.check(got[:3] == wanted[:3], f"{mode}: same object and program, byte for byte")
        t.check(got[3:] == wanted[3:], f"{mode}: the program does the same under telltale", got[3:])
        for session in sessions:
            if t.findings(session):
                t.check_recorded(session, "tree" if "program" in session.stem else "cc1plus", 1 if mode == "sampled" else 1000)
                t.check_clean(session)
    return t.end()


if __name__ == "__main__":
    sys.exit(main())
