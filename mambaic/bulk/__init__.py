"""Folders and tar shards of pictures, coded by Ray Data on one machine or on many.

    plan --> read (tasks) --> code (actors, each with a codec) --> write (here) + manifest

Workers turn bytes into bytes. Outputs and manifest are written by the process that was called, in
the order of the plan, so a worker that dies leaves nothing half done, and its pictures go to
another one.
"""
