{{/*
A map that only makes sense as a whole, as YAML: the given one as it is, without what is null in it, or the chart's own
where none is given. The chart's own are here and not in values.yaml, since Helm would merge a given map into them.
Argument: a list of the given map and the name of the template with the chart's own.
*/}}
{{- define "temporal-fleet.whole" -}}
{{- $given := first . -}}
{{- if kindIs "invalid" $given -}}
{{- include (last .) $given -}}
{{- else -}}
{{- $kept := dict -}}
{{- range $key, $value := $given -}}
{{- if not (kindIs "invalid" $value) }}{{- $_ := set $kept $key $value -}}{{- end -}}
{{- end -}}
{{- with $kept }}{{ toYaml . }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "temporal-fleet.pod-security" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "temporal-fleet.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "temporal-fleet.strategy" -}}
type: RollingUpdate
rollingUpdate:
  maxSurge: 25%
  maxUnavailable: 0
{{- end -}}
