# The agent on top of an image that has a program to run: the runtime `command`. `covalence images build command
# --base my-tool:1` does the same without a shell in the base; this one adds a user with a home and /workspace.
#
#   docker build -f agent/Dockerfile.command --build-arg BASE=my-tool:1 -t covalence/my-tool:latest target/agent-image
#   docker run --init -e WORKSPACE_ID=… -e PLATFORM_URL=… -e AGENT_COMMAND='["my-tool", "--quiet"]' covalence/my-tool
#
# The context is the one of agent/Dockerfile. BASE must be Debian-like: it needs a shell, `useradd` and `install`.
# Run it with an init process (`--init`, or `init: true`), because commands may leave orphans, and the agent reaps
# none but its own children. Credentials of the program come as environment variables at run time, never from here.
ARG BASE=debian:stable-slim
FROM ${BASE}
USER root
# A fixed number, so that volumes and files that the platform puts in place have the right owner.
RUN (getent passwd 10001 >/dev/null || useradd --uid 10001 --user-group --create-home agent) \
 && install -d -o 10001 -g 10001 -m 0700 /configs \
 && install -d -o 10001 -g 10001 /workspace
COPY covalence-agent /usr/local/bin/covalence-agent
ENV AGENT_LISTEN_HOST=0.0.0.0 PORT=8000 WORKSPACE_CONFIG_PATH=/configs AGENT_RUNTIME=command
USER 10001:10001
WORKDIR /workspace
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/local/bin/covalence-agent", "health"]
ENTRYPOINT ["/usr/local/bin/covalence-agent"]
