{{/*
What `fleet rollout` reads: the server, and builds and routing of every task queue, as JSON. Queues that share a Worker
Deployment have one routing, under the key of the first; workers names the keys of a build and what workload each runs,
where it is not that key and its workload alone. Without an address, which
a release without task queues need not have, there is no server to name. Argument: a dict of root, fleet, and polled:
whether to leave out builds that may have no workers.
*/}}
{{- define "temporal-fleet.routing" -}}
{{- $queues := dict -}}
{{- range $queue := .fleet.queues -}}
{{- if not .with -}}
{{- $builds := dict -}}
{{- range $build := $queue.builds -}}
{{- if or (not $.polled) (gt (int .floor) 0) -}}
{{- $described := dict "buildId" .id "versioned" .versioned -}}
{{- $workers := dict -}}
{{- range $.fleet.builds -}}
{{- if and (eq .deployment $build.deployment) (eq .key $build.key) }}{{ $_ := set $workers .queue .workload }}{{ end -}}
{{- end -}}
{{- if ne (toJson $workers) (dict $queue.key $queue.workload | toJson) }}{{ $_ := set $described "workers" $workers }}{{ end -}}
{{- $_ := set $builds .key $described -}}
{{- end -}}
{{- end -}}
{{- $entry := dict
  "deployment" $queue.deployment
  "workload" $queue.workload
  "builds" $builds
  "routing" (dict "current" $queue.current "ramping" $queue.ramping "percentage" $queue.percentage)
  "rollout" (pick $queue.values.rollout "mode" "allowRampDown" "allowMissingTaskQueues" "allowSharedTaskQueues")
-}}
{{- with $queue.values.taskQueue }}{{ $_ := set $entry "taskQueue" . }}{{ end -}}
{{- $_ := set $queues $queue.key $entry -}}
{{- end -}}
{{- end -}}
{{- $routing := dict "apiVersion" "temporal-fleet/v1" "release" .root.Release.Name "queues" $queues -}}
{{- with include "temporal-fleet.address" .root -}}
{{- $_ := set $routing "temporal" (dict "address" . "namespace" $.root.Values.temporal.namespace) -}}
{{- end -}}
{{- toPrettyJson $routing -}}
{{- end -}}

{{/*
Metadata of what Helm runs or needs for it. It stays when it fails, so that its log can be read.
Argument: a dict of root, name, events and weight; prints for a Job.
*/}}
{{- define "temporal-fleet.hook-metadata" -}}
name: {{ include "temporal-fleet.name" (list .root .name) | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "temporal-fleet.labels" (dict "root" .root "component" "hooks") | nindent 2 }}
annotations:
  helm.sh/hook: {{ .events }}
  helm.sh/hook-weight: {{ .weight | quote }}
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
  {{- if .prints }}
  # Helm prints the log of the Job, and so why it refused.
  helm.sh/hook-output-log-policy: hook-succeeded,hook-failed
  {{- end }}
{{- end -}}

{{/*
Specification of a Job that Helm runs. Argument: a dict as for command-pod, and job (activeDeadlineSeconds,
backoffLimit).
*/}}
{{- define "temporal-fleet.hook-job" -}}
activeDeadlineSeconds: {{ int .job.activeDeadlineSeconds }}
backoffLimit: {{ int .job.backoffLimit }}
# A Job that failed is kept for a day; Helm replaces it before that when it runs the hook again.
ttlSecondsAfterFinished: 86400
# These exit codes mean refused, wrong usage and no connection: another attempt would end the same way.
podFailurePolicy:
  rules:
    - action: FailJob
      onExitCodes:
        containerName: {{ .name | quote }}
        operator: In
        values: [1, 2, 3]
template:
  metadata:
    labels:
      {{- include "temporal-fleet.pod-labels" (dict "root" .root "component" "hooks") | nindent 6 }}
    {{- with .root.Values.hooks.podAnnotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    {{- include "temporal-fleet.command-pod" . | nindent 4 }}
{{- end -}}

{{/*
Service account of what runs `fleet` once, the upgrade guard excepted. Argument: the root.
*/}}
{{- define "temporal-fleet.hook-service-account" -}}
{{- if .Values.hooks.serviceAccount.name -}}
{{- .Values.hooks.serviceAccount.name -}}
{{- else if .Values.hooks.serviceAccount.create -}}
{{- include "temporal-fleet.name" (list . "hooks") -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/*
Name of the ConfigMap of a dashboard. Argument: a list of the root and the path of its file.
*/}}
{{- define "temporal-fleet.dashboard-name" -}}
{{- include "temporal-fleet.name" (list (first .) (printf "dashboard-%s" (base (last .) | trimSuffix ".json" | lower | replace "_" "-"))) -}}
{{- end -}}
