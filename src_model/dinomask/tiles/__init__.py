"""The bookkeeping around the network: plan, ledger, stitch and render. No torch.

An image is cut into tiles (`plan`), what the network finds in each is kept in
one atomic record (`ledger`), the records become one set of instances
(`stitch`), and these are drawn into a label image (`render`).
"""
