# First version of the base image: any Python image, Caloric as the entry point, the handler as the command.
#
#   docker build --build-arg PYTHON_IMAGE=python:3.13-slim -t caloric .
#   FROM caloric
#   COPY app.py ${LAMBDA_TASK_ROOT}/
#   CMD ["app.handler"]
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ARG RUST_VERSION=1.95.0
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs \
    | sh -s -- -y --profile minimal --default-toolchain ${RUST_VERSION}
ENV PATH=/root/.cargo/bin:${PATH}
RUN python3 -m venv /build && /build/bin/pip install --no-cache-dir 'maturin>=1.9.4,<2'
WORKDIR /src
COPY . .
# A function never serves the Runtime API to itself: the endpoint stays out.
RUN /build/bin/maturin build --release --locked --no-default-features --interpreter python3 --out /wheels

FROM ${PYTHON_IMAGE}
# Compiled with unchecked hashes, so that no start compares them with the sources' times.
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-compile /wheels/*.whl \
    && site=$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
    && python3 -m compileall -q --invalidation-mode unchecked-hash "$site/caloric" "$site/snapshot_restore_py" \
    && mkdir -p /opt/caloric /var/task \
    && ln -s "$site" /opt/caloric/site-packages
ENV LAMBDA_TASK_ROOT=/var/task
WORKDIR /var/task
# Through the link, so that the path does not name a Python version.
ENTRYPOINT ["python3", "-S", "/opt/caloric/site-packages/caloric/bootstrap.py"]
