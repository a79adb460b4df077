"""The commands, one module each: each reads its flags, calls one function of the library, and shows what came back."""

# Each command's function, how it is written, and its help; the list of commands shows the first paragraph.
COMMANDS = {
    "train": (
        "lightwell.cli.commands.train:train",
        "[TEXT...] [FLAGS]",
        """Learn from a text, and save a run with its curve and samples.

        The text is files, folders or globs; without any, the default corpus is learned. One of --steps, --epochs and
        --minutes says for how long; --minutes alone also chooses the size of the model. In brackets: what a setting is
        when it is not given. --help shows the settings that most people set, --help-all all of them.""",
    ),
    "resume": (
        "lightwell.cli.commands.train:resume",
        "RUN",
        """Go on with a run exactly where it stopped.

        The weights come out bit by bit as if it had never been stopped.""",
    ),
    "runs": ("lightwell.cli.commands.runs:runs", "[FOLDER]", "List the runs in a folder, the newest first."),
    "show": (
        "lightwell.cli.commands.show:show",
        "RUN",
        "Show one run: settings, losses, samples, checkpoints; draw its curve anew.",
    ),
    "generate": (
        "lightwell.cli.commands.generate:generate",
        "RUN [--prompt TEXT] [FLAGS]",
        """Let a trained model write: the prompt and what follows it, token by token.

        Without a prompt it begins a new document. Several prompts are written as a batch.""",
    ),
    "evaluate": (
        "lightwell.cli.commands.evaluate:evaluate",
        "RUN [TEXT...] [FLAGS]",
        """Score a trained model on held-out or other text.

        Gives nats per token, perplexity and bits per byte, beside the reference lines: ln V, unigram and bigram.""",
    ),
    "prepare": (
        "lightwell.cli.commands.prepare:prepare",
        "TEXT... --out FOLDER [FLAGS]",
        """Turn a text of any size into tokens on disk, in bounded memory, for `lightwell train FOLDER`.

        Several processes share the work, and the same command goes on after a stop or a kill. The result is the same to
        the byte, whatever the number of processes.""",
    ),
    "doctor": (
        "lightwell.cli.commands.doctor:doctor",
        "",
        "Look at this machine, and say what to type to change what is wrong.",
    ),
    "lab": (
        "lightwell.cli.commands.lab:lab",
        "[NOTE] [FLAGS]",
        """Measure what seven notes say about language models, and give each a verdict.

        Without a note it lists them; `lightwell lab all` measures them all. What is finished is never measured
        again: after a stop, the same command goes on.""",
    ),
    "bench": (
        "lightwell.cli.commands.bench:bench",
        "[SHAPE...] [FLAGS]",
        """Measure how fast Lightwell trains on this machine, alone or against peers.

        All take turns in processes of their own, beside the bare matrix product; medians and ratios are shown. Ctrl-C
        shows what there is until then.""",
    ),
}
