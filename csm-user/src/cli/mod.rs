//! The command line: commands, and the renderers of `show`.
