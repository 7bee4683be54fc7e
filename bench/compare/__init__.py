"""What a table says of two sides or of many variants: pairs, intervals, verdicts, a gate, and what it cannot say.

where       rows by key=value                   source      a table, and the raw rounds behind it
pairing     which row meets which               change      b against a in one pair, by the best measurement
direction   which way is worse                  comparison  all pairs of two sides
gate        when there is an exit code          rank        variants by their geometric means
caveats     what cannot be concluded            told        the text of all of it
"""
