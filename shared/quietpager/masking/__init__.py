"""Secrets are taken out of text here, and nowhere else. It is the lowest layer, so that everybody may ask.

`mask` says how; `told` says where: the type of every field that holds text from outside, and the net
for JSON that is about to leave.
"""
