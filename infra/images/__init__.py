"""Container images without Docker: layers and manifests written by Python, imported into containerd.

Who calls it: the test bed (images of Kubernetes' and Knative's own programs), the deploy code
(`infra.images.ensure`), and a person with `python -m infra.images`.
"""
