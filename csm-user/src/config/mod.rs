//! The configuration language: command table, parser, validation, printer.
