"""The selective scan of Mamba and the four-direction scan of VMamba."""
