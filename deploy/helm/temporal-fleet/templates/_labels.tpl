{{/*
Labels of an object. Argument: a dict of root and component; also extra, more labels.
Common labels never replace the chart's own.
*/}}
{{- define "temporal-fleet.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_")
  "app.kubernetes.io/name" (include "temporal-fleet.app" .root)
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/component" .component
  "app.kubernetes.io/part-of" "temporal-fleet"
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/managed-by" .root.Release.Service
-}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.commonLabels) (.extra | default dict) $own) -}}
{{- end -}}

{{/*
Labels of a pod: without those that change with the chart, or every upgrade of the chart would restart every worker.
Argument: as for labels.
*/}}
{{- define "temporal-fleet.pod-labels" -}}
{{- $own := dict
  "app.kubernetes.io/name" (include "temporal-fleet.app" .root)
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/component" .component
  "app.kubernetes.io/part-of" "temporal-fleet"
-}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.commonLabels) (.extra | default dict) $own) -}}
{{- end -}}

{{/*
What selects pods, and never changes. Argument: a dict of root and component; build, when pods of one build are meant.
*/}}
{{- define "temporal-fleet.selector-labels" -}}
app.kubernetes.io/name: {{ include "temporal-fleet.app" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component | quote }}
{{- with .build }}
temporal-fleet/build: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "temporal-fleet.app" -}}
{{- .Values.nameOverride | default .Chart.Name -}}
{{- end -}}

{{/*
A Temporal name as the value of a label, which admits fewer characters.
*/}}
{{- define "temporal-fleet.label-value" -}}
{{- regexReplaceAll "[^A-Za-z0-9_.-]" . "_" | trunc 63 | trimAll "-_." -}}
{{- end -}}

{{/*
Refuses labels, and selectors of nodes, that Kubernetes would refuse halfway through an upgrade. Argument: a dict of
fleet, at (the path of the map in messages) and labels.
*/}}
{{- define "temporal-fleet.check-labels" -}}
{{- range $name, $value := .labels -}}
{{- if not (regexMatch "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$" $name) -}}
{{- include "temporal-fleet.problem" (list $.fleet (printf "%s: %q is not the name of a label; use 1 to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends, and perhaps a domain before it, such as example.com/team" $.at $name)) -}}
{{- end -}}
{{- if not (regexMatch "^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$" (toString $value)) -}}
{{- include "temporal-fleet.problem" (list $.fleet (printf "%s.%s is %q, which cannot be the value of a label; use at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends" $.at $name (toString $value))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
