"""The playground: one page on which the smallest recurrent networks can be played with."""
