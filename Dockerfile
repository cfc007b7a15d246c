# One image for every service, the bot host and the two that prepare the broker; compose.yaml says which one runs.
FROM python:3.13-slim

# What bots of the engine `shell` are most often asked for.
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /hive
COPY requirements.lock ./
RUN python -m pip install --no-cache-dir --disable-pip-version-check -qq --root-user-action=ignore \
    --require-hashes -r requirements.lock

# Its volumes are mounted over folders that belong to the user already, so a new volume does, too.
RUN groupadd --system --gid 10001 hive \
    && useradd --system --uid 10001 --gid hive --home-dir /home/hive --create-home hive \
    && for folder in data authority workspaces nats nats/conf nats/store keys keys/gateway keys/orchestrator keys/messenger keys/scheduler keys/bots; \
       do install -d -o hive -g hive -m 0700 "/$folder"; done

COPY shared shared
COPY services services
COPY bots bots
COPY cli cli
# The root is read-only at run time: bytecode is written now or never.
RUN python -m compileall -q /hive

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HIVE_DATA=/data HIVE_PROBE_PORT=9090
USER hive
HEALTHCHECK --interval=5s --timeout=4s --retries=6 CMD ["python", "-m", "cli.probe"]
ENTRYPOINT ["python", "-m"]
CMD ["cli", "--help"]
