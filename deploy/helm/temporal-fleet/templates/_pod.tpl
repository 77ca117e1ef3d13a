{{/*
Mounted files of the connection. No subPath: files mounted so are never renewed.
Argument: the root.
*/}}
{{- define "temporal-fleet.connection-volumes" -}}
{{- with .Values.temporal.tls.ca }}
{{- if .secretName }}
- name: tls-ca
  secret:
    secretName: {{ .secretName | quote }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- with .Values.temporal.tls.client }}
{{- if .secretName }}
- name: tls-client
  secret:
    secretName: {{ .secretName | quote }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- with .Values.temporal.apiKey }}
{{- if .secretName }}
- name: api-key
  secret:
    secretName: {{ .secretName | quote }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- end -}}

{{- define "temporal-fleet.connection-mounts" -}}
{{- if .Values.temporal.tls.ca.secretName }}
- name: tls-ca
  mountPath: /etc/fleet/tls-ca
  readOnly: true
{{- end }}
{{- if .Values.temporal.tls.client.secretName }}
- name: tls-client
  mountPath: /etc/fleet/tls-client
  readOnly: true
{{- end }}
{{- if .Values.temporal.apiKey.secretName }}
- name: api-key
  mountPath: /etc/fleet/api-key
  readOnly: true
{{- end }}
{{- end -}}

{{/*
Specification of the pods of a build. Argument: a build.
*/}}
{{- define "temporal-fleet.worker-pod" -}}
{{- $build := . -}}
{{- $root := .root -}}
{{- $values := .values -}}
serviceAccountName: {{ include "temporal-fleet.service-account" (dict "root" $root "queue" .queue "serviceAccount" $values.serviceAccount) | quote }}
automountServiceAccountToken: {{ $values.serviceAccount.automountToken | default false }}
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .grace }}
{{- with include "temporal-fleet.whole" (list $values.podSecurityContext "temporal-fleet.pod-security") }}
securityContext:
  {{- . | nindent 2 }}
{{- end }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "temporal-fleet.spread" $build }}
topologySpreadConstraints:
  {{- . | nindent 2 }}
{{- end }}
{{- with $values.initContainers }}
initContainers:
  {{- include "temporal-fleet.evaluate" (list $build .) | nindent 2 }}
{{- end }}
containers:
  - name: worker
    image: {{ .image | quote }}
    imagePullPolicy: {{ $values.image.pullPolicy }}
    args:
      - worker
      - {{ .workload | quote }}
    envFrom:
      - configMapRef:
          name: {{ .name | quote }}
      {{- with $values.envFrom }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      {{- if $values.secretEnv }}
      - secretRef:
          name: {{ .name | quote }}
      {{- end }}
    {{- with include "temporal-fleet.env" (merge (deepCopy $values.env) .referring) }}
    env:
      {{- . | trim | nindent 6 }}
    {{- end }}
    ports:
      - name: health
        containerPort: {{ .port }}
        protocol: TCP
    {{- include "temporal-fleet.probes" $build | nindent 4 }}
    {{- with $values.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with include "temporal-fleet.whole" (list $values.securityContext "temporal-fleet.container-security") }}
    securityContext:
      {{- . | nindent 6 }}
    {{- end }}
    volumeMounts:
      - name: tmp
        mountPath: /tmp
      {{- with include "temporal-fleet.connection-mounts" $root }}
      {{- . | trim | nindent 6 }}
      {{- end }}
      {{- if $root.Values.temporal.codec.secretName }}
      - name: codec-keys
        mountPath: /etc/fleet/codec-keys
        readOnly: true
      {{- end }}
      {{- if $values.secretFiles }}
      - name: secrets
        mountPath: /etc/fleet/secrets
        readOnly: true
      {{- end }}
      {{- if $values.serviceAccount.tokens }}
      - name: tokens
        mountPath: /etc/fleet/tokens
        readOnly: true
      {{- end }}
      {{- with $values.volumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
  {{- with $values.sidecars }}
  {{- include "temporal-fleet.evaluate" (list $build .) | nindent 2 }}
  {{- end }}
volumes:
  - name: tmp
    emptyDir:
      sizeLimit: {{ include "temporal-fleet.text" $values.tmp.sizeLimit | quote }}
      {{- with $values.tmp.medium }}
      medium: {{ . }}
      {{- end }}
  {{- with include "temporal-fleet.connection-volumes" $root }}
  {{- . | trim | nindent 2 }}
  {{- end }}
  {{- with $root.Values.temporal.codec.secretName }}
  - name: codec-keys
    secret:
      secretName: {{ . | quote }}
      defaultMode: 0440
  {{- end }}
  {{- with $values.secretFiles }}
  - name: secrets
    projected:
      defaultMode: 0440
      sources:
        {{- range . }}
        - secret:
            name: {{ .secretName | quote }}
            {{- with .items }}
            items:
              {{- toYaml . | nindent 14 }}
            {{- end }}
        {{- end }}
  {{- end }}
  {{- with $values.serviceAccount.tokens }}
  - name: tokens
    projected:
      defaultMode: 0440
      sources:
        {{- range . }}
        - serviceAccountToken:
            audience: {{ .audience | quote }}
            expirationSeconds: {{ .expirationSeconds | default 3600 | int }}
            path: {{ .path | quote }}
        {{- end }}
  {{- end }}
  {{- with $values.volumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/*
Probes of the worker. Counts of failures that are not given follow the runtime's own timeouts, so that the worker
ends itself, with a message, before the kubelet ends it. Argument: a build.
*/}}
{{- define "temporal-fleet.probes" -}}
{{- $settings := .values.settings -}}
{{- $probes := .values.probes -}}
{{- $connect := addf (dig "connectionDeadlineSeconds" 60 $settings) 60 -}}
{{- $alive := addf (dig "healthLivenessTimeoutSeconds" 30 $settings) (int $probes.liveness.periodSeconds) -}}
{{- $derived := dict
  "startup" (divf $connect (int $probes.startup.periodSeconds) | ceil)
  "liveness" (divf $alive (int $probes.liveness.periodSeconds) | ceil)
  "readiness" 3
-}}
{{- $pages := dict "startup" "/startupz" "liveness" "/livez" "readiness" "/readyz" -}}
{{- range $kind := list "startup" "liveness" "readiness" }}
{{- $probe := get $probes $kind }}
{{- if $probe.enabled }}
{{- $failures := $probe.failureThreshold }}
{{ $kind }}Probe:
  httpGet:
    path: {{ get $pages $kind }}
    port: health
  periodSeconds: {{ int $probe.periodSeconds }}
  timeoutSeconds: {{ int $probe.timeoutSeconds }}
  failureThreshold: {{ kindIs "invalid" $failures | ternary (get $derived $kind) $failures | int }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
Topology spread constraints: given ones, else a soft spread over nodes and zones. Argument: a build.
*/}}
{{- define "temporal-fleet.spread" -}}
{{- $selector := dict "matchLabels" (include "temporal-fleet.selector-labels" (dict "root" .root "component" .queue "build" .key) | fromYaml) -}}
{{- $constraints := list -}}
{{- if kindIs "invalid" .values.topologySpreadConstraints -}}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" -}}
{{- $constraints = append $constraints (dict "topologyKey" $key "maxSkew" 1 "whenUnsatisfiable" "ScheduleAnyway" "labelSelector" $selector "matchLabelKeys" (list "pod-template-hash")) -}}
{{- end -}}
{{- else -}}
{{- range .values.topologySpreadConstraints -}}
{{- $constraints = append $constraints (merge (deepCopy .) (dict "labelSelector" $selector)) -}}
{{- end -}}
{{- end -}}
{{- with $constraints }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/*
Name of the service account of a task queue. Argument: a dict of root, queue and serviceAccount.
*/}}
{{- define "temporal-fleet.service-account" -}}
{{- if .serviceAccount.name -}}
{{- .serviceAccount.name -}}
{{- else if .serviceAccount.create -}}
{{- include "temporal-fleet.name" (list .root .queue) -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/*
Specification of a pod that runs `fleet` once. Argument: a dict of
  root, fleet
  name             of the container
  serviceAccount   name
  args             list
  volumes, mounts  lists; may be left out
*/}}
{{- define "temporal-fleet.command-pod" -}}
{{- $root := .root -}}
{{- $hooks := $root.Values.hooks -}}
restartPolicy: Never
serviceAccountName: {{ .serviceAccount | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with include "temporal-fleet.whole" (list $hooks.podSecurityContext "temporal-fleet.pod-security") }}
securityContext:
  {{- . | nindent 2 }}
{{- end }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $hooks.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $hooks.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $hooks.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
containers:
  - name: {{ .name | quote }}
    image: {{ include "temporal-fleet.hook-image" (dict "root" $root "fleet" .fleet) | quote }}
    imagePullPolicy: {{ $hooks.image.pullPolicy }}
    args:
      {{- range .args }}
      - {{ . | quote }}
      {{- end }}
    env:
      {{- include "temporal-fleet.env" (include "temporal-fleet.hook-variables" $root | fromJson) | trim | nindent 6 }}
    {{- with $hooks.envFrom }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $hooks.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with include "temporal-fleet.whole" (list $hooks.securityContext "temporal-fleet.container-security") }}
    securityContext:
      {{- . | nindent 6 }}
    {{- end }}
    volumeMounts:
      - name: tmp
        mountPath: /tmp
      {{- with include "temporal-fleet.connection-mounts" $root }}
      {{- . | trim | nindent 6 }}
      {{- end }}
      {{- with .mounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  - name: tmp
    emptyDir:
      sizeLimit: 64Mi
  {{- with include "temporal-fleet.connection-volumes" $root }}
  {{- . | trim | nindent 2 }}
  {{- end }}
  {{- with .volumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/*
Variables of the hooks, as JSON: of the connection, and given ones. Argument: the root.
*/}}
{{- define "temporal-fleet.hook-variables" -}}
{{- mergeOverwrite (include "temporal-fleet.connection-env" . | fromJson) (deepCopy .Values.hooks.env) | toJson -}}
{{- end -}}

{{/*
Image of the hooks: given, else that of the build that is to be current of the first task queue.
Argument: a dict of root and fleet.
*/}}
{{- define "temporal-fleet.hook-image" -}}
{{- $image := .root.Values.hooks.image -}}
{{- if $image.repository -}}
{{- $names := dict "Template" .root.Template -}}
{{- include "temporal-fleet.image" (dict "image" $image "tag" .root.Chart.AppVersion "names" $names) -}}
{{- else -}}
{{- $queue := first .fleet.queues -}}
{{- range $queue.builds -}}
{{- if eq .role "current" }}{{ .image }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
