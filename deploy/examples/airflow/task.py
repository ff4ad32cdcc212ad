"""A task in a pod of its own, with any image and any uid, that writes to the claim `shared` (../static-pv.yaml).

Needs apache-airflow-providers-cncf-kubernetes. The pod names the claim and its own ids, and nothing of permfs or NFS.
"""

import pendulum
from airflow import DAG
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from kubernetes.client import models as k8s

with DAG(dag_id="permfs_example", schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC"), catchup=False):
    KubernetesPodOperator(
        task_id="write",
        namespace="airflow",
        image="docker.io/library/busybox:1.37",
        cmds=["sh", "-c"],
        arguments=["mkdir -p /shared/runs/$RUN && date > /shared/runs/$RUN/began && ls -ln /shared/runs"],
        env_vars={"RUN": "{{ ds_nodash }}"},
        security_context=k8s.V1PodSecurityContext(run_as_user=50000, run_as_group=0),
        volumes=[
            k8s.V1Volume(
                name="shared",
                persistent_volume_claim=k8s.V1PersistentVolumeClaimVolumeSource(claim_name="shared"),
            )
        ],
        volume_mounts=[k8s.V1VolumeMount(name="shared", mount_path="/shared")],
    )
