"""What the API server has at this moment, asked for itself: for where a cache is not enough."""

from __future__ import annotations

from control_plane.core.cluster import Cluster, Kind, NotFound, Object


async def list_all(
    cluster: Cluster, kind: Kind, *, namespace: str | None, selector: str = "", fields: str = ""
) -> list[Object]:
    """Every object of a kind, or those that selectors of labels and fields take, consistent over the pages.

    Raises:
        ClusterError: the API server did not answer, or a page came too late: ask again.
    """
    objects: list[Object] = []
    page = ""
    while True:
        part = await cluster.list_page(
            kind, namespace=namespace, selector=selector, fields=fields, page=page
        )
        objects += part.items
        page = part.next
        if not page:
            return objects


async def get_or_none(cluster: Cluster, kind: Kind, name: str, *, namespace: str) -> Object | None:
    """One object; `None` where there is none.

    Raises:
        ClusterError: the API server did not answer.
    """
    try:
        return await cluster.get(kind, name, namespace=namespace)
    except NotFound:
        return None
